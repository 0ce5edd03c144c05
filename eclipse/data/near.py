"""Which of many perceptual hashes are near each other, without comparing each with each; exact.

Multi-index hashing (Norouzi, Punjani and Fleet, 2014): 64 bits are cut into m chunks. Of two hashes at most d bits
apart, one chunk at least is at most ⌊d/m⌋ bits apart, so only hashes that an index by chunks finds there are compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from eclipse.data.dedupe import same_colours

_BITS = 64
_LOOKUP, _COMPARE = 6.0, 1.0  # relative costs, measured roughly; only speed depends on them
_TABLE = 24  # bits of a chunk for which a table of all values is kept: 128 MiB
_BLOCK = 1 << 22  # pairs compared at a time
Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


def plan(queries: int, base: int, distance: int) -> list[int]:
    """Widths of the chunks that make the fewest steps; one chunk of no bits compares each with each."""

    def steps(widths: list[int]) -> float:
        radius = distance // len(widths)
        flips = [sum(comb(width, bits) for bits in range(min(radius, width) + 1)) for width in widths]
        return (
            sum(n * (_LOOKUP * (w > 0) + _COMPARE * base / 2**w) for n, w in zip(flips, widths, strict=True)) * queries
        )

    cut = [[_BITS // m + (i < _BITS % m) for i in range(m)] for m in range(1, distance + 2)]
    return min([[0], *cut], key=steps)


def near_pairs(
    queries: NDArray[np.uint64],
    base: NDArray[np.uint64],
    distance: int,
    examined: Callable[[int], None] = lambda count: None,
) -> Iterator[Pairs]:
    """Yield blocks of (position in ``queries``, position in ``base``) int64 of all pairs at most ``distance`` bits
    apart, each pair once, in no particular order.

    ``examined`` is told how many pairs were compared.
    """
    widths = plan(len(queries), len(base), distance)
    radius = distance // len(widths)
    shifts = np.cumsum([0, *widths[:-1]])
    for number, (shift, width) in enumerate(zip(shifts, widths, strict=True)):
        mine, theirs = _chunk(queries, shift, width), _chunk(base, shift, width)
        order = np.argsort(theirs, kind="stable")
        bounds = _bounds(theirs[order], width)
        for flip in _flips(width, radius):
            for i, places in _expanded(*bounds(mine ^ flip)):
                j = order[places]
                examined(len(i))
                apart = queries[i] ^ base[j]
                good = np.bitwise_count(apart) <= distance
                for earlier in range(number):  # found there already
                    good &= np.bitwise_count(_chunk(apart, shifts[earlier], widths[earlier])) > radius
                yield i[good], j[good]


def _bounds(ordered: NDArray[np.uint64], width: int) -> Callable[[NDArray[np.uint64]], Pairs]:
    """Where in ``ordered`` the given values begin and end."""
    if width > _TABLE:
        return lambda wanted: (np.searchsorted(ordered, wanted, "left"), np.searchsorted(ordered, wanted, "right"))
    starts = np.concatenate([[0], np.cumsum(np.bincount(ordered.astype(np.int64), minlength=1 << width))])
    return lambda wanted: (starts[wanted], starts[wanted + np.uint64(1)])


def _chunk(hashes: NDArray[np.uint64], shift: int, width: int) -> NDArray[np.uint64]:
    mask = np.uint64((1 << width) - 1)
    return (hashes >> np.uint64(shift)) & mask if width else np.zeros_like(hashes)


def _flips(width: int, radius: int) -> Iterator[np.uint64]:
    for count in range(min(radius, width) + 1):
        for places in combinations(range(width), count):
            yield np.uint64(sum(1 << place for place in places))


def _expanded(low: NDArray[np.int64], high: NDArray[np.int64]) -> Iterator[Pairs]:
    """(query, place) for each place in [low, high) of each query, in blocks."""
    lengths = high - low
    hit = np.flatnonzero(lengths)
    ends = np.cumsum(lengths[hit])
    start = 0
    while start < len(hit):
        done = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, done + _BLOCK, "right")), start + 1)
        part = hit[start:stop]
        counts = lengths[part]
        first = np.repeat(np.cumsum(counts) - counts, counts)
        yield np.repeat(part, counts), np.repeat(low[part], counts) + np.arange(len(first)) - first
        start = stop


def group_near(
    hashes: NDArray[np.uint64],
    colours: Callable[[NDArray[np.int64]], NDArray[np.uint8]],
    distance: int,
) -> NDArray[np.int64]:
    """What :func:`eclipse.data.dedupe.group_same` returns, for millions of pictures.

    ``hashes`` uint64 [N]; ``colours`` gives uint8 [K, 16, 16, 3] of K ascending positions, and is asked once, for the
    pictures that have another near them.
    """
    groups = np.arange(len(hashes))
    values, which, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    neighbours = _neighbours(values, distance)
    crowded = counts > 1
    crowded[list(neighbours)] = True
    busy = np.flatnonzero(crowded[which])
    if not len(busy):
        return groups
    looks = colours(busy)
    firsts: dict[int, list[int]] = defaultdict(list)  # by value: places in ``busy``
    for place, picture in enumerate(busy):
        value = int(which[picture])
        near = sorted(first for other in (value, *neighbours.get(value, ())) for first in firsts.get(other, ()))
        same = next((first for first in near if same_colours(looks[first], looks[place])), None)
        if same is None:
            firsts[value].append(place)
        else:
            groups[picture] = busy[same]
    return groups


def _neighbours(values: NDArray[np.uint64], distance: int) -> dict[int, list[int]]:
    """For each of the distinct hashes that has others within ``distance``, which."""
    found: dict[int, list[int]] = defaultdict(list)
    for i, j in near_pairs(values, values, distance) if distance else ():
        apart = i != j
        for a, b in zip(i[apart].tolist(), j[apart].tolist(), strict=True):
            found[a].append(b)
    return dict(found)
