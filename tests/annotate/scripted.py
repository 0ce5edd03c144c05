"""A dataset of plain pictures, and models that answer by a picture's colour instead of looking at it."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from eclipse.annotate.interfaces import Corners, Noun, Picture, Proposals
from eclipse.annotate.models import Models
from eclipse.config.data import DataParams
from eclipse.data.manifest import Manifest, Split, params_digest
from eclipse.data.records import SPLITS, Record
from eclipse.data.shards import ShardWriter

SIDE = 20


def png(key: int, white_rows: int = 0) -> bytes:
    """A picture in a colour that :func:`key_of` reads ``key`` from, its last rows white."""
    image = np.full((SIDE, SIDE, 3), (key % 200, key // 200, 77), np.uint8)
    image[SIDE - white_rows :] = 255
    buffer = io.BytesIO()
    Image.fromarray(image, "RGB").save(buffer, "PNG")
    return buffer.getvalue()


def key_of(image: Picture) -> int:
    return int(image[0, 0, 0]) + 200 * int(image[0, 0, 1])


def write_dataset(path: Path, captions: dict[str, list[str]], *, shard_size: int = 2) -> Manifest:
    """Records in the order of ``captions``' splits; picture number = record number."""
    splits, number = {}, 0
    for split in SPLITS:
        with ShardWriter(path, split, shard_size) as writer:
            for caption in captions.get(split, []):
                writer.add(Record(f"{number:04d}", caption, png(number), {"source": f"{number}.png"}))
                number += 1
        splits[split] = Split.of(writer.shards)
    manifest = Manifest(
        source="folder", seed=3, params_digest=params_digest(DataParams()), splits=splits, dropped={"excluded": 2}
    )
    manifest.save(path)
    return manifest


Found = tuple[str, float, tuple[float, float, float, float]]
"""Phrase, score, box."""


class Script:
    """All four models. ``found`` has each picture's boxes by its key; others show ``default``."""

    def __init__(
        self, found: dict[int, list[Found]] | None = None, default: Sequence[Found] = (), *, fail_at: int = -1
    ) -> None:
        self.found, self.default = found or {}, list(default)
        self.seen: list[int] = []
        self._fail_at = fail_at

    def models(self, *, captions: bool = False) -> Models:
        return Models(self if captions else None, self, self, self)

    def captions(self, images: Sequence[Picture]) -> list[str]:
        return ["" if key_of(image) == 1 else f"a dog number {key_of(image)}" for image in images]

    def nouns(self, captions: Sequence[str]) -> list[list[Noun]]:
        words = re.compile(r"\b(dog|cat|hat)s?\b", re.IGNORECASE)
        return [[Noun(m.group(), m.span()) for m in words.finditer(caption)] for caption in captions]

    def detect(self, images: Sequence[Picture], phrases: Sequence[Sequence[str]]) -> list[Proposals]:
        answers = []
        for image, own in zip(images, phrases, strict=True):
            key = key_of(image)
            if key == self._fail_at:
                raise KeyboardInterrupt
            self.seen.append(key)
            answers.append(proposals(self.found.get(key, self.default), own))
        return answers

    def masks(self, image: Picture, boxes: Sequence[Corners]) -> np.ndarray:
        """The upper 60 % of each box, and nothing of boxes that begin at x = 1."""
        masks = np.zeros((len(boxes), *image.shape[:2]), np.uint8)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
            if x0 != 1:
                mask[y0 : y0 + round(0.6 * (y1 - y0)), x0:x1] = 1
        return masks


def proposals(found: Sequence[Found], phrases: Sequence[str]) -> Proposals:
    words = [[score if phrase == one else 0.01 for one in phrases] for phrase, score, _ in found]
    return Proposals(
        np.array([box for _, _, box in found], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in found], np.float32),
        np.array(words, np.float32).reshape(-1, len(phrases)),
    )
