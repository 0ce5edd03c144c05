"""What annotation asks of its four models, so that each can be exchanged on its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""RGB uint8 (H, W, 3)."""
Corners = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels of the picture, the upper bounds exclusive."""


@dataclass(frozen=True)
class Noun:
    """A noun of a caption: ``caption[span[0]:span[1]] == word``."""

    word: str
    span: tuple[int, int]

    @property
    def phrase(self) -> str:
        """What is looked for in the picture; nouns that differ in case only are looked for once."""
        return self.word.lower()


@dataclass(frozen=True)
class Proposals:
    """All Q places that a detector looked at in one picture, none removed yet.

    ``boxes`` float32 [Q, 4]: x0, y0, x1, y1 in pixels, possibly beyond the picture's edge; ``scores`` float32 [Q] in
    [0, 1]: that there is something; ``words`` float32 [Q, N]: that it is what the n-th phrase names.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    words: NDArray[np.float32]


@dataclass(frozen=True)
class Box:
    """A proposal that passed both thresholds: the phrase it shows, the detector's score, and whole pixels."""

    phrase: str
    score: float
    corners: Corners


class Captioner(Protocol):
    """Says what a picture shows."""

    def captions(self, images: Sequence[Picture]) -> list[str]:
        """One caption for each picture; an empty one where the model says nothing."""


class NounFinder(Protocol):
    """Finds the nouns of a caption."""

    def nouns(self, captions: Sequence[str]) -> list[list[Noun]]:
        """Each caption's nouns in its order; their spans do not overlap."""


class Detector(Protocol):
    """Finds in a picture what phrases name."""

    def detect(self, images: Sequence[Picture], phrases: Sequence[Sequence[str]]) -> list[Proposals]:
        """The proposals of each picture for its own, distinct, phrases (one at least)."""


class Segmenter(Protocol):
    """Finds the pixels of what a box shows."""

    def masks(self, image: Picture, boxes: Sequence[Corners]) -> NDArray[np.uint8]:
        """{0, 1} uint8 [K, H, W] for K ≥ 1 boxes of one picture."""
