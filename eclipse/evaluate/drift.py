"""Whether two samples of embeddings come from one distribution: the maximum mean discrepancy (Gretton et al. 2012)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eclipse.errors import DataError

Vectors = NDArray[np.floating[Any]]
_AT_ONCE = 200  # permutations of one matrix product


@dataclass(frozen=True)
class Drift:
    """``mmd2`` is the unbiased estimate of MMD² (may be below 0), ``p`` the permutation p-value of "no difference".

    ``bandwidth`` is the kernel's σ, ``null_95`` the 95th percentile of MMD² under permutation; n and m count rows.
    """

    mmd2: float
    p: float
    bandwidth: float
    null_95: float
    n: int
    m: int


def mmd_test(a: Vectors, b: Vectors, *, permutations: int = 1000, seed: int = 0) -> Drift:
    """Compare ``a`` [n, P] with ``b`` [m, P] by an RBF kernel exp(−d² / 2σ²), σ the median distance of the pooled rows.

    The p-value is (1 + permutations at least as large) / (1 + permutations), so it is never 0. :class:`DataError` for
    fewer than two rows, other widths, or values that are not finite.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise DataError(f"drift: embeddings {a.shape} and {b.shape}; need two rows or more, of equal width")
    pooled = np.concatenate([a, b]).astype(np.float64)
    if not np.isfinite(pooled).all():
        raise DataError("drift: an embedding is not finite; run the embed stage again")
    squared = _squared_distances(pooled)
    bandwidth = _median_distance(squared)
    kernel = np.exp(-squared / (2 * bandwidth**2)) if bandwidth else (squared == 0).astype(np.float64)
    membership = np.zeros((len(pooled), 1))
    membership[: len(a)] = 1
    observed = float(_mmd2(kernel, membership)[0])
    null = _null(kernel, len(a), permutations, seed)
    p = (1 + int((null >= observed - 1e-12).sum())) / (1 + permutations)
    return Drift(observed, p, bandwidth, float(np.quantile(null, 0.95)), len(a), len(b))


def _squared_distances(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = (rows**2).sum(1)
    squared = norms[:, None] + norms[None, :] - 2 * rows @ rows.T
    np.fill_diagonal(squared, 0)
    return np.maximum(squared, 0)


def _median_distance(squared: NDArray[np.float64]) -> float:
    """The median over pairs of different rows; 0 where most rows are equal."""
    return float(np.median(np.sqrt(squared[np.triu_indices(len(squared), 1)])))


def _mmd2(kernel: NDArray[np.float64], membership: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unbiased MMD² [B] for each column of ``membership`` [N, B], whose ones are the rows of the first sample."""
    n = membership[:, 0].sum()
    m = len(membership) - n
    product = kernel @ membership
    both = (membership * product).sum(0)
    across = membership.T @ kernel.sum(1) - both
    other = kernel.sum() - both - 2 * across
    diagonal = np.diag(kernel)
    first = membership.T @ diagonal
    within = (both - first) / (n * (n - 1)) + (other - (diagonal.sum() - first)) / (m * (m - 1))
    return np.asarray(within - 2 * across / (n * m))


def _null(kernel: NDArray[np.float64], n: int, permutations: int, seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    parts = []
    for start in range(0, permutations, _AT_ONCE):
        count = min(_AT_ONCE, permutations - start)
        membership = np.zeros((len(kernel), count))
        for column in range(count):
            membership[rng.permutation(len(kernel))[:n], column] = 1
        parts.append(_mmd2(kernel, membership))
    return np.concatenate(parts)
