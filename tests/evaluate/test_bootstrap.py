import numpy as np
import pytest

from eclipse.errors import DataError
from eclipse.evaluate.bootstrap import bootstrap_means, estimate, paired_difference, resamples


def test_interval_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(300):
        found = estimate(rng.exponential(1.0, 80), count=300, seed=trial)
        hits += found.low <= 1.0 <= found.high
    assert 0.89 <= hits / 300 <= 0.985


def test_interval_narrows_like_one_over_root_n():
    rng = np.random.default_rng(1)
    widths = [(e := estimate(rng.normal(size=n), count=2000)).high - e.low for n in (100, 1600)]
    assert widths[0] == pytest.approx(2 * 1.96 / 10, rel=0.2)
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.25)


def test_equal_arguments_give_equal_resamples_and_other_seeds_do_not():
    a, b, c = (np.concatenate(list(resamples(50, 20, seed))) for seed in (3, 3, 4))
    assert a.shape == (20, 50) and a.min() >= 0 and a.max() < 50
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_methods_are_resampled_alike_so_a_constant_gain_has_no_uncertainty():
    a = np.random.default_rng(0).normal(size=60)
    assert np.allclose(bootstrap_means(a + 0.3, 200, 5) - bootstrap_means(a, 200, 5), 0.3)
    gain = paired_difference(a + 0.3, a, count=200, seed=5)
    assert gain.low == pytest.approx(0.3) and gain.high == pytest.approx(0.3)


def test_pairing_finds_a_difference_that_unpaired_intervals_hide():
    rng = np.random.default_rng(2)
    difficulty = rng.normal(0, 1, 100)
    a, b = difficulty + 0.1 + rng.normal(0, 0.05, 100), difficulty + rng.normal(0, 0.05, 100)
    apart, together = (estimate(a), estimate(b)), paired_difference(a, b)
    assert apart[0].low < apart[1].high
    assert together.low > 0.05


def test_undefined_prompts_are_dropped_and_none_left_is_none():
    assert estimate(np.array([1.0, np.nan, 3.0])).value == 2.0
    assert estimate(np.array([1.0, np.nan, 3.0])).n == 2
    assert estimate(np.full(4, np.nan)) is None


def test_pairing_refuses_other_prompts():
    with pytest.raises(DataError, match="other prompts"):
        paired_difference(np.array([1.0, np.nan]), np.array([1.0, 2.0]))
    with pytest.raises(DataError, match="other prompts"):
        paired_difference(np.ones(3), np.ones(4))


def test_blocks_do_not_change_the_resamples(monkeypatch):
    whole = np.concatenate(list(resamples(30, 40, 0)))
    monkeypatch.setattr("eclipse.evaluate.bootstrap._CELLS", 100)
    blocks = list(resamples(30, 40, 0))
    assert len(blocks) > 5 and np.array_equal(np.concatenate(blocks), whole)
