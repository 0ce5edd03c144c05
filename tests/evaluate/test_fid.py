import numpy as np
import pytest
from scipy.linalg import sqrtm

from eclipse.errors import DataError
from eclipse.evaluate.fid import frechet_distance, frechet_estimate


def with_moments(mean, cov, n, seed):
    """Samples whose empirical mean and covariance are exactly the given ones."""
    x = np.random.default_rng(seed).normal(size=(n, len(mean)))
    x = x - x.mean(0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T
    return x @ np.linalg.cholesky(cov).T + mean


def test_closed_form_for_diagonal_gaussians():
    a = with_moments(np.zeros(3), np.diag([1.0, 4.0, 9.0]), 50, 0)
    b = with_moments(np.array([1.0, 0.0, 2.0]), np.diag([4.0, 4.0, 1.0]), 70, 1)
    assert frechet_distance(a, b) == pytest.approx(1 + 4 + (1 - 2) ** 2 + 0 + (3 - 1) ** 2, rel=1e-9)


def test_equals_the_matrix_square_root_definition():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6)), rng.normal(size=(30, 6)) @ rng.normal(size=(6, 6)) + 1
    s, t = np.cov(a.T), np.cov(b.T)
    direct = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s + t - 2 * sqrtm(s @ t).real)
    assert frechet_distance(a, b) == pytest.approx(direct, rel=1e-8)


def test_fewer_pictures_than_features_is_exact_too():
    rng = np.random.default_rng(3)
    a, shift = rng.normal(size=(10, 64)), np.zeros(64)
    shift[0] = 2.0
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + shift) == pytest.approx(4.0, rel=1e-9)
    assert frechet_distance(a, 3 * a) == pytest.approx((a.mean(0) ** 2).sum() * 4 + 4 * np.cov(a.T).trace(), rel=1e-9)


def test_symmetric_and_blind_to_order():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(20, 5)), rng.normal(size=(25, 5)) * 2
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b[::-1], a[::-1]), rel=1e-10)


def test_interval_holds_the_value_and_repeats():
    rng = np.random.default_rng(5)
    real = rng.normal(size=(100, 32))
    decoded = real + rng.normal(0.2, 0.5, size=real.shape)
    found = frechet_estimate(decoded, real, seed=1, count=60)
    assert found == frechet_estimate(decoded, real, seed=1, count=60)
    assert 0 <= found.low < found.value < found.high and found.n == 100


def test_too_little_to_say_anything():
    assert frechet_estimate(np.zeros((1, 4)), np.zeros((1, 4)), seed=0) is None
    with pytest.raises(DataError, match="equal width"):
        frechet_distance(np.zeros((5, 4)), np.zeros((5, 3)))
