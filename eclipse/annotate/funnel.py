"""How many pictures and boxes came in, how many each rule removed, and how many were kept: they always add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

IMAGE_RULES = ("white", "caption", "nouns", "boxes", "identical", "subjects")
"""In their order. ``caption``: the captioner said nothing; ``nouns``: its caption has none."""
BOX_RULES = (
    "box_threshold",
    "text_threshold",
    "boxes",
    "identical",
    "logit",
    "ratio",
    "mask_share",
    "unmatched",
    "subjects",
)
"""In their order. ``boxes``, ``identical`` and ``subjects`` remove boxes together with their picture."""


@dataclass
class Stream:
    """Counts of one kind of thing: ``entered``, ``kept``, and ``dropped`` by rule."""

    entered: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def as_dict(self, rules: Iterable[str]) -> dict[str, Any]:
        """``in``, ``kept`` and ``dropped`` with every one of ``rules``, those that removed nothing as well."""
        return {"in": self.entered, "kept": self.kept, "dropped": {rule: self.dropped[rule] for rule in rules}}

    def add(self, counts: dict[str, Any]) -> None:
        """Add what :meth:`as_dict` gave."""
        self.entered += counts["in"]
        self.kept += counts["kept"]
        self.dropped.update(counts["dropped"])


@dataclass
class Funnel:
    """Counts of pictures, of their boxes (a kept box is a subject), and of kept pictures by number of subjects."""

    images: Stream = field(default_factory=Stream)
    boxes: Stream = field(default_factory=Stream)
    subjects: Counter[int] = field(default_factory=Counter)

    def image(self, rule: str, stays: bool, *, boxes: int = 0) -> bool:
        """Pass on ``stays``; where it is False, count the picture under ``rule``, and its ``boxes`` with it."""
        if not stays:
            self.images.dropped[rule] += 1
            self.boxes.dropped[rule] += boxes
        return stays

    def sift(self, rule: str, things: Iterable[T], stays: Callable[[T], bool]) -> list[T]:
        """The boxes of ``things`` that ``stays`` is true of; the others are counted under ``rule``."""
        everything = list(things)
        kept = [thing for thing in everything if stays(thing)]
        self.boxes.dropped[rule] += len(everything) - len(kept)
        return kept

    def keep(self, subjects: int) -> None:
        """A picture came through with so many subjects."""
        self.images.kept += 1
        self.boxes.kept += subjects
        self.subjects[subjects] += 1

    def as_dict(self) -> dict[str, Any]:
        """``images`` and ``boxes`` (each ``in``, ``kept``, ``dropped`` by rule) and ``subjects``: number → pictures."""
        return {
            "images": self.images.as_dict(IMAGE_RULES),
            "boxes": self.boxes.as_dict(BOX_RULES),
            "subjects": {str(number): self.subjects[number] for number in sorted(self.subjects)},
        }

    def add(self, counts: dict[str, Any]) -> None:
        """Add what another funnel's :meth:`as_dict` gave."""
        self.images.add(counts["images"])
        self.boxes.add(counts["boxes"])
        self.subjects.update({int(number): count for number, count in counts["subjects"].items()})
