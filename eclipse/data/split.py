"""Splits without leakage: what must stay together is joined first, then each joined group goes to one split as a whole.

Joined are records with the same normalised caption, with the same picture, and with the same held-out cell.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations

from eclipse.data.records import TRAIN
from eclipse.errors import ConfigError

Cell = tuple[str, ...]


@dataclass(frozen=True)
class Item:
    """What the split looks at: the caption, the number of the picture it shows, and its cell if it has one."""

    caption: str
    picture: int
    cell: Cell | None = None


@dataclass(frozen=True)
class Assignment:
    """``splits`` and ``groups`` (a name for what was kept together) in the order of the items."""

    splits: tuple[str, ...]
    groups: tuple[str, ...]


def unit(*parts: object) -> float:
    """A number in [0, 1) that depends on ``parts`` only, the same on every machine and in every run."""
    digest = hashlib.sha256("\0".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def normalise(caption: str) -> str:
    """The caption as compared for leakage: Unicode NFKC, case folded, single spaces, no punctuation at its ends."""
    text = unicodedata.normalize("NFKC", caption).casefold()
    return " ".join(text.split()).strip(" .,;:!?\"'") or caption


class CellPattern:
    """The regular expression that names a caption's cell.

    Named groups are the cell's factors; groups that took no part are left out; names that differ only in a trailing
    number (``tone_1``, ``tone_2``) are interchangeable, so "A, B" and "B, A" are one cell. Without named groups the
    first group is the cell, and without groups the whole match.
    """

    def __init__(self, pattern: str) -> None:
        try:
            self._regex = re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"data.hold_out: not a regular expression ({error}): {pattern}") from None

    def cell(self, caption: str) -> Cell | None:
        """The factors' values in the order of the groups, each as ``name=value``; None if the caption has no cell."""
        found = self._regex.search(caption)
        if found is None:
            return None
        if not self._regex.groupindex:
            return (found.group(1) or "" if self._regex.groups else found.group(),)
        named = [(re.sub(r"_\d+$", "", name), value) for name, value in found.groupdict().items() if value is not None]
        places = {name: i for i, (name, _) in reversed(list(enumerate(named)))}
        return tuple(f"{name}={value}" for name, value in sorted(named, key=lambda pair: (places[pair[0]], pair[1])))


def choose_held_out(cells: Collection[Cell], share: float, seed: int) -> set[Cell]:
    """Cells to hold out, in the order of a stable hash.

    With ``share`` 1 all of them. Below, that share of the cells that can be told from the rest of training: each cell
    is taken only if every combination of all but one of its factors still occurs in a cell that stays. So role,
    gender and tone of a held-out cell are all known, also in pairs, and only their triple is new.
    """
    distinct = set(cells)
    if share >= 1:
        return distinct
    left: dict[Cell, int] = {}
    for cell in distinct:
        for part in _parts(cell):
            left[part] = left.get(part, 0) + 1
    recombined = [cell for cell in distinct if all(left[part] > 1 for part in _parts(cell))]
    wanted = round(share * len(recombined))
    held: set[Cell] = set()
    for cell in sorted(recombined, key=lambda cell: unit(seed, "held-out", *cell)):
        if len(held) < wanted and all(left[part] > 1 for part in _parts(cell)):
            held.add(cell)
            for part in _parts(cell):
                left[part] -= 1
    return held


def assign(items: Sequence[Item], held_out: Collection[Cell], *, evaluation_share: float, seed: int) -> Assignment:
    """A split for each item, by stable hashes of what it is joined with.

    Groups with a held-out cell go to ``val_held_out`` or ``test_held_out``; of the rest, half of ``evaluation_share``
    each to ``val_seen`` and ``test_seen``.
    """
    held = set(held_out)
    names = _joined(items, held)
    has_held = {name for name, item in zip(names, items, strict=True) if item.cell in held}

    def split(name: str) -> str:
        draw = unit(seed, "split", name)
        if name in has_held:
            return "val_held_out" if draw < 0.5 else "test_held_out"
        if draw < evaluation_share:
            return "val_seen" if draw < evaluation_share / 2 else "test_seen"
        return TRAIN

    return Assignment(tuple(split(name) for name in names), tuple(names))


def _parts(cell: Cell) -> set[Cell]:
    return set(combinations(cell, len(cell) - 1))


def _joined(items: Sequence[Item], held: set[Cell]) -> list[str]:
    """The name of each item's group: its smallest key, so that it does not depend on the order of the items."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    keys = [_keys(item, held) for item in items]
    for own in keys:
        for key in own[1:]:
            a, b = sorted((root(own[0]), root(key)))
            parent[b] = a
    return [root(own[0]) for own in keys]


def _keys(item: Item, held: set[Cell]) -> list[str]:
    # "picture" sorts last, so that no group is named by it: picture numbers change when images are added.
    keys = [f"caption {normalise(item.caption)}", f"picture {item.picture}"]
    return [f"a cell {'|'.join(item.cell)}", *keys] if item.cell in held and item.cell is not None else keys
