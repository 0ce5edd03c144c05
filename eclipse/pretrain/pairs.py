"""Captioned pictures as CLIP training draws them, from the mini world or from any ingested dataset."""

from __future__ import annotations

import io
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eclipse.data.manifest import open_split
from eclipse.errors import DataError


class Pairs(Protocol):
    """``images`` uint8 (N, H, W, 3), a caption for each, and batches that contain hard negatives."""

    @property
    def images(self) -> NDArray[np.uint8]:
        """All pictures."""

    def caption(self, index: int, rng: np.random.Generator) -> str:
        """A phrasing for picture ``index``."""

    def draw(self, rng: np.random.Generator, size: int) -> NDArray[np.int64]:
        """``size`` distinct indices for one batch."""


@dataclass(frozen=True)
class RecordPairs:
    """The pictures of one split. Captions with one stem (up to a colon or comma) are hard negatives."""

    images: NDArray[np.uint8]
    captions: tuple[str, ...]
    families: tuple[NDArray[np.int64], ...]

    def caption(self, index: int, rng: np.random.Generator) -> str:
        """The picture's one caption."""
        return self.captions[index]

    def draw(self, rng: np.random.Generator, size: int) -> NDArray[np.int64]:
        """Half of the batch from families (up to four of one), the rest at random from all pictures."""
        chosen: dict[int, None] = {}
        while self.families and len(chosen) < size // 2:
            family = self.families[rng.integers(len(self.families))]
            for index in rng.permutation(family)[:4]:
                chosen[int(index)] = None
        for index in rng.permutation(len(self.images)):
            if len(chosen) >= size:
                break
            chosen[int(index)] = None
        return np.array(list(chosen)[:size], dtype=np.int64)


def load_pairs(dataset: Path, split: str = "train") -> RecordPairs:
    """Read a whole split into memory; its images must share one size."""
    images, captions = [], []
    stems: dict[str, list[int]] = defaultdict(list)
    for i, record in enumerate(open_split(dataset, split)):
        images.append(np.array(Image.open(io.BytesIO(record.image)).convert("RGB")))
        captions.append(record.caption)
        stems[re.split("[:,]", record.caption)[0]].append(i)
    if not images:
        raise DataError(f"{dataset}: split {split} is empty; ingest more images or lower data.evaluation_share")
    families = tuple(np.array(f) for f in stems.values() if len(f) > 1)
    return RecordPairs(np.stack(images), tuple(captions), families)
