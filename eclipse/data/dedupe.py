"""Which pictures are the same picture: alike in structure (perceptual hash) and in colour, not in one of them.

A perceptual hash sees luminance only, so it takes the skin-tone variants of one emoji for the same picture. Pictures
therefore also have to agree in colour everywhere on a coarse grid. The largest difference counts, not the mean:
variants often differ in a face of a few pixels. Re-encoding or rescaling a photo moves no cell by more than 4 levels,
while the closest emoji variants are 21 apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

_GRID = 16
_COLOUR_TOLERANCE = 10  # levels of 255 in the cell that differs most


@dataclass(frozen=True)
class Fingerprint:
    """``structure``: 64-bit perceptual hash; ``colours``: uint8 (16, 16, 3) mean colours of a grid."""

    structure: int
    colours: NDArray[np.uint8]


def fingerprint(image: NDArray[np.uint8]) -> Fingerprint:
    """Fingerprint of a fitted picture, uint8 (H, W, 3)."""
    picture = Image.fromarray(image, "RGB")
    bits = imagehash.phash(picture).hash.ravel()
    colours = np.asarray(picture.resize((_GRID, _GRID), Image.Resampling.BOX))
    return Fingerprint(int.from_bytes(np.packbits(bits).tobytes(), "big"), colours)


def group_same(prints: Sequence[Fingerprint], distance: int) -> list[int]:
    """For each picture the position of the first one it equals (its own if none).

    Equal: perceptual hashes at most ``distance`` bits apart, and no grid cell's colour further off than the tolerance.
    Comparison is with firsts only, so a chain of small changes does not merge its ends. Takes O(n · firsts) word
    operations; :func:`eclipse.data.near.group_near` finds the same of millions.
    """
    hashes = np.array([p.structure for p in prints], np.uint64)
    firsts = np.zeros(len(prints), np.int64)
    groups: list[int] = []
    known = 0
    for i, candidate in enumerate(prints):
        apart = np.bitwise_count(hashes[firsts[:known]] ^ hashes[i])
        near = firsts[:known][apart <= distance]
        same = next((int(j) for j in near if same_colours(prints[j].colours, candidate.colours)), None)
        if same is None:
            firsts[known] = i
            known += 1
        groups.append(i if same is None else same)
    return groups


def same_colours(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> bool:
    """Whether no cell of two grids, uint8 (16, 16, 3), differs by more than re-encoding or rescaling makes it."""
    return int(np.abs(a.astype(np.int16) - b).max()) <= _COLOUR_TOLERANCE
