"""Which box is which noun's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eclipse.annotate.interfaces import Box, Corners, Noun

_SAME = 0.5  # boxes of one noun that overlap by more (intersection over union) show one thing


@dataclass(frozen=True)
class Masked:
    """A box and the {0, 1} mask (H, W) of what it shows."""

    box: Box
    mask: NDArray[np.uint8]


def match(nouns: Sequence[Noun], found: Sequence[Masked]) -> list[tuple[Noun, Masked]]:
    """The nouns that have a box, in the caption's order, each with its own.

    A noun takes the best-scored box of its phrase. Where the noun occurs again, the next occurrence takes the best
    box that is left and shows something else: boxes of one noun that overlap by more than half (intersection over
    union) are one thing. Occurrences without a box are no subjects, and a plural is one subject with its best box.
    """
    taken: dict[str, list[Masked]] = {}
    pairs = []
    ranked = sorted(found, key=lambda one: -one.box.score)  # stable: equal scores stay in the detector's order
    for noun in nouns:
        others = taken.setdefault(noun.phrase, [])
        for one in ranked:
            if one.box.phrase == noun.phrase and all(_apart(one.box, other.box) for other in others):
                others.append(one)
                pairs.append((noun, one))
                break
    return pairs


def overlap(a: Corners, b: Corners) -> float:
    """Intersection over union of two boxes with area, in [0, 1]."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (_area(a) + _area(b) - shared)


def _apart(a: Box, b: Box) -> bool:
    return overlap(a.corners, b.corners) <= _SAME


def _area(corners: Corners) -> int:
    return (corners[2] - corners[0]) * (corners[3] - corners[1])
