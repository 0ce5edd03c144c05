"""Judging decoded pictures: by the oracle where scenes are known, by CLIP everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eclipse.errors import DataError
from eclipse.evaluate.metrics import cosine
from eclipse.models.clip import FrozenClip
from eclipse.world.oracle import Oracle, judge
from eclipse.world.scene import Scene

CATEGORIES = ("colour", "shape", "texture", "spatial", "count", "background", "composition")
_BATCH = 128


class Judge:
    """CLIP and, for worlds whose scenes are known, the oracle."""

    def __init__(self, clip: FrozenClip, oracle: Oracle | None) -> None:
        self.clip = clip
        self.oracle = oracle

    @classmethod
    def load(cls, clip: FrozenClip, frozen: Path) -> Judge:
        """With the oracle of ``frozen/oracle`` if there is one."""
        folder = frozen / "oracle"
        return cls(clip, Oracle.load(folder) if folder.is_dir() else None)

    def clip_score(self, images: NDArray[np.uint8], prompt_embeds: NDArray[np.float32]) -> NDArray[np.float64]:
        """Cosine of CLIP's embedding of each picture (uint8 [N, H, W, 3]) and its caption's z_y [N, P]."""
        return cosine(self.embed(images), prompt_embeds)

    def categories(self, images: NDArray[np.uint8], meta: Sequence[dict[str, Any]]) -> dict[str, NDArray[np.float64]]:
        """Per category of the oracle a score in [0, 1] per picture, NaN where the caption asks nothing of the kind.

        Empty where there is no oracle or no record has a scene. :class:`DataError` where a scene is malformed.
        """
        if self.oracle is None or not any("scene" in item for item in meta):
            return {}
        table = {name: np.full(len(images), np.nan) for name in CATEGORIES}
        reading = self.oracle.read(images)
        for i, item in enumerate(meta):
            if "scene" not in item:
                continue
            try:
                scene = Scene.from_dict(item["scene"])
            except (KeyError, TypeError) as error:
                raise DataError(f"record {i}: meta.scene is no scene ({error}); write the dataset again") from None
            for name, score in judge(scene, reading.one(i)).items():
                table[name][i] = score
        return table

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the Fréchet distance is taken in, [N, F]: the oracle's features, or z_x where there is no oracle."""
        return self.oracle.features(images) if self.oracle is not None else self.embed(images)

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """CLIP image embeddings [N, P] of uint8 pictures, unnormalised."""
        parts = [self.clip.encode_image(images[i : i + _BATCH]).cpu().numpy() for i in range(0, len(images), _BATCH)]
        return np.concatenate(parts)
