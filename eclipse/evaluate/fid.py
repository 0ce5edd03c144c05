"""Fréchet distance between Gaussians fitted to two sets of picture features."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eclipse.errors import DataError
from eclipse.evaluate.bootstrap import Estimate, percentiles, resamples

RESAMPLES = 200

Features = NDArray[np.floating[Any]]


def frechet_distance(a: Features, b: Features) -> float:
    """‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½) of ``a`` [n, F] and ``b`` [m, F], unbiased covariances.

    With Σ = XᵀX the trace of (Σ_a Σ_b)^½ is the nuclear norm of X_a X_bᵀ: exact for singular covariances too (fewer
    pictures than features), where a matrix square root is slow and loses digits.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise DataError(f"Fréchet distance: features {a.shape} and {b.shape}; need two rows or more, of equal width")
    root_a, root_b = _root(a), _root(b)
    gap = a.mean(0, dtype=np.float64) - b.mean(0, dtype=np.float64)
    shared = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    return float(max(gap @ gap + (root_a**2).sum() + (root_b**2).sum() - 2 * shared, 0.0))


def frechet_estimate(decoded: Features, real: Features, *, seed: int, count: int = RESAMPLES) -> Estimate | None:
    """Distance of ``decoded`` to ``real`` (row i of both is prompt i), with an interval over resampled prompts.

    Resampling repeats pictures and so shifts the distance up; the interval is moved back by that mean shift. The
    distance itself depends on n: compare it only between rows of equal n. None below two prompts.
    """
    if len(decoded) < 2:
        return None
    value = frechet_distance(decoded, real)
    draws = [frechet_distance(decoded[i], real[i]) for block in resamples(len(decoded), count, seed) for i in block]
    low, high = percentiles(np.array(draws) - float(np.mean(draws)) + value)
    return Estimate(value, max(low, 0.0), max(high, 0.0), len(decoded))


def _root(features: Features) -> NDArray[np.float64]:
    centred = np.asarray(features, np.float64) - features.mean(0, dtype=np.float64)
    centred /= np.sqrt(len(features) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r")) if len(centred) > centred.shape[1] else centred
