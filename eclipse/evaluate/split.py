"""One split of one sweep point: predictions, pictures, and every metric per prompt."""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from eclipse.config.decoder import DecoderParams
from eclipse.config.params import EvaluateParams
from eclipse.data.manifest import open_split
from eclipse.data.mirror import mirror_pairs
from eclipse.data.records import TRAIN
from eclipse.embeddings.store import Store
from eclipse.errors import DataError
from eclipse.evaluate import metrics
from eclipse.evaluate.bootstrap import Estimate, estimate
from eclipse.evaluate.fid import frechet_estimate
from eclipse.evaluate.generate import Targets, decode_prompts, predict_split, prompt_seeds, read_targets
from eclipse.evaluate.judge import Judge
from eclipse.models.checkpoint import Prior
from eclipse.models.clip import FrozenClip
from eclipse.models.decoder import Decoder, open_decoder
from eclipse.models.device import pick

TRAINING_PICTURES = 50_000  # training pictures that predictions are held against; more are thinned evenly
REFERENCES = ("truth", "text")


@dataclass(frozen=True)
class Tools:
    """The frozen models, loaded once for all splits; no decoder = embedding metrics only."""

    judge: Judge
    decoder: Decoder | None
    negative: NDArray[np.float32] | None

    @classmethod
    def load(cls, frozen: Path, params: EvaluateParams, *, images: int, memory: DecoderParams | None = None) -> Tools:
        """From ``frozen`` with clip, decoder and, where there is one, oracle; no decoder for 0 ``images``.

        ``memory`` says how the decoder is held, None by detection. :class:`ConfigError` for a sampler that is not right
        with it.
        """
        clip = FrozenClip.load(frozen / "clip")
        judge = Judge.load(clip, frozen)
        if not images:
            return cls(judge, None, None)
        decoder = open_decoder(frozen, memory, device=pick())
        decoder.check_scheduler(params.decode.scheduler)
        if params.decode.guidance <= 1:
            return cls(judge, decoder, None)
        return cls(judge, decoder, decoder.negative(clip.encode_nothing).cpu().numpy())


@dataclass(frozen=True)
class World:
    """The embeddings of all real pictures, split after split, to hold predictions against.

    ``image_embeds`` float32 [M, P]; ``first`` is each split's first row; ``partner`` int64 [M] is the row of the
    caption's mirror partner, −1 where it has none.
    """

    image_embeds: NDArray[np.float32]
    gallery: metrics.Gallery
    first: dict[str, int]
    partner: NDArray[np.int64]
    training: NDArray[np.float32]

    @classmethod
    def of(cls, stores: dict[str, Store]) -> World:
        """From one open store per split, ``train`` among them."""
        kept = {split: thinned(split, len(store)) for split, store in stores.items()}
        parts = {split: read_targets(store, kept[split]).image_embeds for split, store in stores.items()}
        captions = [
            c for split, store in stores.items() for c in store.table()["caption"].take(kept[split]).to_pylist()
        ]
        starts = np.cumsum([0, *map(len, parts.values())])
        everything = np.concatenate(list(parts.values()))
        partner = np.full(len(everything), -1, np.int64)
        for i, j in mirror_pairs(captions):
            partner[i], partner[j] = j, i
        first = {split: int(start) for split, start in zip(parts, starts[:-1], strict=True)}
        return cls(everything, metrics.Gallery.of(everything), first, partner, parts[TRAIN])


@dataclass(frozen=True)
class Result:
    """What is known of one split: per-prompt ``scores`` [N] (NaN = not defined), and what they came from."""

    ids: list[str]
    captions: list[str]
    predicted: NDArray[np.float32]
    images: NDArray[np.uint8]
    scores: dict[str, NDArray[np.float64]]
    fid: Estimate | None
    prior_seconds: float

    def estimates(self, params: EvaluateParams) -> dict[str, Any]:
        """Each metric with its 95 % interval as JSON; metrics defined on no prompt are left out."""
        found = {k: estimate(v, count=params.bootstrap, seed=params.seed) for k, v in self.scores.items()}
        found["fid"] = self.fid
        return {name: value.to_dict() for name, value in found.items() if value is not None}


def thinned(split: str, count: int) -> NDArray[np.int64]:
    """Rows of ``split`` that stand in the gallery: all, but of a large training split evenly spaced ones."""
    if split != TRAIN or count <= TRAINING_PICTURES:
        return np.arange(count)
    return np.linspace(0, count - 1, TRAINING_PICTURES).astype(np.int64)


def evaluate_split(
    split: str,
    store: Store,
    world: World,
    tools: Tools,
    *,
    dataset: Path,
    prior: Prior | None,
    point: str,
    params: EvaluateParams,
) -> Result:
    """Measure ``prior`` (None: the reference ``point`` truth or text) on all captions of ``split``."""
    table = store.table()
    ids, captions = table["id"].to_pylist(), table["caption"].to_pylist()
    targets = read_targets(store)
    predicted, seconds = _predicted(split, store, targets, ids, prior, point, params)
    scores = embedding_scores(split, predicted, targets, world)
    images = np.zeros((0, 1, 1, 3), np.uint8)
    fid = None
    if tools.decoder is not None and params.images:
        count = min(params.images, len(ids))
        seeds = prompt_seeds(split, ids[:count], "decoder", params.seed)
        images = decode_prompts(
            tools.decoder, predicted[:count], seeds, params.decode, tools.negative, captions[:count]
        )
        real, meta = real_pictures(dataset, split, ids[:count], (images.shape[2], images.shape[1]))
        judged = tools.judge.categories(images, meta)
        judged["clip_score"] = tools.judge.clip_score(images, targets.prompt_embeds[:count])
        scores |= {name: filled(values, len(ids)) for name, values in judged.items()}
        judge = tools.judge
        fid = frechet_estimate(judge.features(images), judge.features(real), seed=params.seed)
    return Result(ids, captions, predicted, images, scores, fid, seconds)


def embedding_scores(
    split: str, predicted: NDArray[np.float32], targets: Targets, world: World
) -> dict[str, NDArray[np.float64]]:
    """The metrics that need no picture, each float64 [N]."""
    rows = np.arange(len(predicted))
    within = metrics.ranks(predicted, metrics.Gallery.of(targets.image_embeds), rows)
    among_all = metrics.ranks(predicted, world.gallery, rows + world.first[split])
    scores = {
        "cosine": metrics.cosine(predicted, targets.image_embeds),
        "text_cosine": metrics.cosine(predicted, targets.prompt_embeds),
        "r1": metrics.recall(within, 1),
        "r5": metrics.recall(within, 5),
        "r1_all": metrics.recall(among_all, 1),
        "r5_all": metrics.recall(among_all, 5),
        "manifold": metrics.manifold(predicted, targets.image_embeds, world.training),
    }
    partner = world.partner[world.first[split] :][: len(predicted)]
    has = partner >= 0
    if has.any():
        scores["binding"] = np.full(len(predicted), np.nan)
        scores["binding"][has] = metrics.binding(
            predicted[has], targets.image_embeds[has], world.image_embeds[partner[has]]
        )
    return scores


def real_pictures(
    dataset: Path, split: str, ids: list[str], size: tuple[int, int]
) -> tuple[NDArray[np.uint8], list[dict[str, Any]]]:
    """The first pictures of ``split`` uint8 [N, H, W, 3] and their meta, checked to be those that the store names.

    ``size`` is (W, H) of the pictures that they are held against; others are cut to its shape and resized.
    """
    records = list(islice(open_split(dataset, split), len(ids)))
    if [record.id for record in records] != ids:
        raise DataError(f"{dataset}: {split} holds other records than the store; run the embed stage again")
    pictures = [Image.open(io.BytesIO(record.image)).convert("RGB") for record in records]
    fitted = [picture if picture.size == size else ImageOps.fit(picture, size) for picture in pictures]
    return np.stack([np.asarray(picture) for picture in fitted]), [record.meta for record in records]


def _predicted(
    split: str,
    store: Store,
    targets: Targets,
    ids: list[str],
    prior: Prior | None,
    point: str,
    params: EvaluateParams,
) -> tuple[NDArray[np.float32], float]:
    if prior is None:
        return (targets.image_embeds if point == "truth" else targets.prompt_embeds), 0.0
    return predict_split(prior, store, prompt_seeds(split, ids, "prior", params.seed), params, desc=split)


def filled(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """``values`` of the first prompts float64 [K], with NaN up to ``size``."""
    return np.concatenate([values, np.full(size - len(values), np.nan)])
