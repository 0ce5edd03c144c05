"""MMD² by hand, against sums written out one by one, and as a test that keeps its level."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eclipse.errors import DataError
from eclipse.evaluate.drift import mmd_test


def test_by_hand():
    """Pooled distances of 0, 1 | 2, 3 on a line: 1 1 1 2 2 3, so the median is 1.5."""
    a, b = np.array([[0.0], [1.0]]), np.array([[2.0], [3.0]])
    found = mmd_test(a, b, permutations=50)
    assert found.bandwidth == pytest.approx(1.5)

    def k(d):
        return math.exp(-(d**2) / (2 * 1.5**2))

    across = (k(2) + k(3) + k(1) + k(2)) / 4
    assert found.mmd2 == pytest.approx(k(1) + k(1) - 2 * across)
    assert (found.n, found.m) == (2, 2)


@pytest.mark.parametrize(("n", "m"), [(7, 7), (5, 9)])
def test_against_sums_written_out(n, m):
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(n, 3)), rng.normal(size=(m, 3)) + 0.5
    rows = [*a, *b]
    distances = [np.linalg.norm(x - y) for i, x in enumerate(rows) for y in rows[i + 1 :]]
    sigma = float(np.median(distances))

    def k(x, y):
        return math.exp(-(np.linalg.norm(x - y) ** 2) / (2 * sigma**2))

    within_a = sum(k(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_b = sum(k(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    across = sum(k(x, y) for x in a for y in b) / (n * m)
    found = mmd_test(a, b, permutations=10)
    assert found.mmd2 == pytest.approx(within_a + within_b - 2 * across)
    assert found.bandwidth == pytest.approx(sigma)


def test_all_permutations_of_a_small_sample():
    """With 2 + 2 rows there are six splits; the observed one and its mirror are the largest, so p tends to 2 / 6."""
    a, b = np.array([[0.0], [1.0]]), np.array([[10.0], [11.0]])
    assert mmd_test(a, b, permutations=4000).p == pytest.approx(1 / 3, abs=0.03)


def test_a_shift_is_seen_and_p_is_never_zero():
    rng = np.random.default_rng(0)
    found = mmd_test(rng.normal(size=(80, 8)), rng.normal(size=(80, 8)) + 0.7, permutations=200)
    assert found.p == pytest.approx(1 / 201)
    assert found.mmd2 > found.null_95 > 0


def test_without_a_difference_it_keeps_its_level():
    """Of 200 comparisons of one distribution with itself 5 % are below 0.05, give or take three standard errors."""
    rng = np.random.default_rng(1)
    values = [mmd_test(rng.normal(size=(20, 3)), rng.normal(size=(25, 3)), permutations=99, seed=i) for i in range(200)]
    assert np.mean([found.p <= 0.05 for found in values]) == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 200))
    assert np.mean([found.mmd2 for found in values]) == pytest.approx(0, abs=0.005), "the estimate is biased"


def test_the_order_of_rows_does_not_matter():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(12, 4)), rng.normal(size=(9, 4))
    assert mmd_test(a[::-1], b, permutations=5).mmd2 == pytest.approx(mmd_test(a, b, permutations=5).mmd2)


def test_equal_rows_are_no_drift():
    found = mmd_test(np.ones((4, 2)), np.ones((5, 2)), permutations=20)
    assert (found.mmd2, found.p, found.bandwidth) == (0, 1, 0)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.ones((1, 2)), np.ones((4, 2))),
        (np.ones((4, 2)), np.ones((4, 3))),
        (np.full((4, 2), np.nan), np.ones((4, 2))),
    ],
)
def test_unfit_input_is_refused(a, b):
    with pytest.raises(DataError, match="drift"):
        mmd_test(a, b)
