from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eclipse.data.dedupe import Fingerprint, group_same
from eclipse.data.near import group_near, near_pairs, plan

_HASHES = st.lists(st.integers(0, 2**64 - 1), max_size=12)


def _crowd(seeds: list[int], number: int, count: int = 60):
    """Hashes few bits away from a few centres, where near and far both occur; two kinds of colours."""
    rng = np.random.default_rng(number)
    hashes = np.array(seeds or [0], np.uint64)[rng.integers(0, max(len(seeds), 1), count)]
    for place in rng.integers(0, count, 4 * count):
        hashes[place] ^= np.uint64(1) << np.uint64(rng.integers(64))
    colours = np.broadcast_to(rng.integers(0, 3, (count, 1, 1, 1)) * 9, (count, 16, 16, 3)).astype(np.uint8)
    return hashes, colours


@given(_HASHES, st.integers(0, 99), st.integers(0, 16), st.integers(1, 40))
def test_pairs_are_those_of_comparing_each_with_each(seeds, number, distance, queries):
    hashes, _ = _crowd(seeds, number)
    found = [
        (int(a), int(b)) for i, j in near_pairs(hashes[:queries], hashes, distance) for a, b in zip(i, j, strict=True)
    ]
    brute = np.bitwise_count(hashes[:queries, None] ^ hashes[None]) <= distance
    assert len(found) == len(set(found))
    assert set(found) == {(int(a), int(b)) for a, b in zip(*np.nonzero(brute), strict=True)}


@given(_HASHES, st.integers(0, 99), st.integers(0, 16))
def test_groups_are_those_of_group_same(seeds, number, distance):
    hashes, colours = _crowd(seeds, number)
    prints = [Fingerprint(int(h), c) for h, c in zip(hashes, colours, strict=True)]
    assert group_near(hashes, lambda places: colours[places], distance).tolist() == group_same(prints, distance)


@pytest.mark.parametrize(("distance", "share"), [(0, 1e-4), (2, 1e-3), (4, 1e-3), (8, 0.03)])
def test_few_of_all_pairs_are_compared(distance, share):
    hashes = np.random.default_rng(0).integers(0, 2**64, 20_000, np.uint64)
    compared = []
    pairs = sum(len(i) for i, _ in near_pairs(hashes, hashes, distance, compared.append))
    assert pairs >= len(hashes)
    assert sum(compared) < share * len(hashes) ** 2


def test_the_plan_cuts_all_bits_and_gives_up_where_an_index_would_cost_more():
    for n in (10, 10**4, 10**6):
        for distance in range(17):
            assert sum(plan(n, n, distance)) in (0, 64)
    assert plan(5, 5, 16) == [0]
    assert plan(5_000_000, 5_000_000, 4) == [22, 21, 21]
