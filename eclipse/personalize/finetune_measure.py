"""What a finetuned decoder draws: concept pictures against the true ones, ordinary scenes against the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eclipse.config.params import DecodeParams
from eclipse.evaluate.judge import Judge
from eclipse.evaluate.metrics import cosine
from eclipse.models.decoder import Decoder
from eclipse.personalize.smoothness import movq_features, perceptual_distance
from eclipse.world.scene import Scene

Scores = dict[str, NDArray[np.float64]]
CONCEPT_METRICS = ("clip_i", "perceptual", "rmse", "own_texture")
SCENE_METRICS = ("colour", "shape", "texture", "composition")


@dataclass(frozen=True)
class Examples:
    """True pictures ``images`` uint8 [N, 64, 64, 3], their z_x ``embeds`` float32 [N, P], and look-alikes.

    ``rivals`` uint8 [N, K, 64, 64, 3] are the same pictures with ordinary textures in place of the concept's own.
    """

    images: NDArray[np.uint8]
    embeds: NDArray[np.float32]
    rivals: NDArray[np.uint8]


class Measure:
    """Decodes with one seed per picture, the same for every decoder, and judges what comes out."""

    def __init__(self, judge: Judge, settings: DecodeParams) -> None:
        self.judge, self.settings = judge, settings
        self._negative = judge.clip.encode_nothing().cpu().numpy() if settings.guidance > 1 else None

    def decode(self, decoder: Decoder, embeds: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Pictures uint8 [N, H, W, 3] of true z_x float32 [N, P]."""
        return decoder.decode(
            embeds,
            seeds=range(len(embeds)),
            steps=self.settings.steps,
            scheduler=self.settings.scheduler,
            guidance=self.settings.guidance,
            negative_embeds=self._negative,
            batch_size=self.settings.batch_size,
        )

    def concept(self, decoder: Decoder, images: NDArray[np.uint8], truth: Examples) -> Scores:
        """Scores [N] of decoded ``images`` against the true pictures.

        ``clip_i``: cosine of the two CLIP embeddings. ``perceptual``: distance of MoVQ features (the MoVQ is never
        finetuned), ``rmse`` of pixels in [0, 1]; both lower is better, and both hold place and size against a picture
        that z_x says little about. ``own_texture``: 1 where the true picture is perceptually nearer than all rivals.
        """
        movq, device = decoder.movq, decoder.device
        decoder.turn("movq")
        perceptual, own = np.empty(len(images)), np.empty(len(images))
        for i, image in enumerate(images):
            mine = movq_features(movq, image, device)
            perceptual[i] = perceptual_distance(mine, movq_features(movq, truth.images[i], device))
            own[i] = all(
                perceptual_distance(mine, movq_features(movq, rival, device)) > perceptual[i]
                for rival in truth.rivals[i]
            )
        return {
            "clip_i": cosine(self.judge.embed(images), truth.embeds),
            "perceptual": perceptual,
            "rmse": np.sqrt(np.square((images.astype(np.float64) - truth.images) / 255).mean((1, 2, 3))),
            "own_texture": own,
        }

    def scenes(self, decoder: Decoder, embeds: NDArray[np.float32], scenes: Sequence[Scene]) -> Scores:
        """The oracle's accuracies [N], one per metric, on ordinary ``scenes`` decoded from their z_x [N, P]."""
        judged = self.judge.categories(self.decode(decoder, embeds), [{"scene": scene.to_dict()} for scene in scenes])
        return {name: judged[name] for name in SCENE_METRICS}
