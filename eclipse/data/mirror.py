"""Pairs of captions that differ only in which of two things has which attribute: a natural test of binding."""

from __future__ import annotations

from collections.abc import Sequence


def mirror_pairs(captions: Sequence[str]) -> list[tuple[int, int]]:
    """Positions (i, j), i < j, of captions equal up to exchange of their last two comma-separated attributes.

    "handshake, dark, light" and "handshake, light, dark" are a pair; a caption whose two attributes are equal has no
    partner. Of captions that occur several times the first counts. Pairs come in ascending order.
    """
    first: dict[tuple[str, ...], int] = {}
    for i, caption in enumerate(captions):
        parts = tuple(part.strip() for part in caption.split(","))
        if len(parts) >= 3 and parts[-1] != parts[-2]:
            first.setdefault(parts, i)
    pairs = []
    for parts, i in first.items():
        j = first.get((*parts[:-2], parts[-1], parts[-2]))
        if j is not None and i < j:
            pairs.append((i, j))
    return pairs
