"""Percentile bootstrap over prompts, paired across methods: equal (n, count, seed) means equal resamples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eclipse.errors import DataError

LEVEL = 0.95
_CELLS = 4_000_000  # resampled indices held at once


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval and the number of prompts behind it."""

    value: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, Any]:
        """As the metric files hold it."""
        return asdict(self)


def resamples(n: int, count: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Blocks of rows of prompt indices, ``count`` rows of length ``n`` in all, drawn with replacement.

    A pure function of its arguments: two methods judged on the same prompts are resampled alike.
    """
    rng = np.random.default_rng([seed, n])
    rows = max(1, _CELLS // max(n, 1))
    for start in range(0, count, rows):
        yield rng.integers(0, n, (min(rows, count - start), n))


def estimate(values: NDArray[np.floating[Any]], *, count: int = 2000, seed: int = 0) -> Estimate | None:
    """Mean of per-prompt ``values`` [n] with its percentile interval; NaN marks prompts the metric is not defined on.

    None where no prompt is left. Which prompts are NaN depends on the prompts alone, so pairing survives the drop.
    """
    kept = np.asarray(values, np.float64)
    kept = kept[~np.isnan(kept)]
    if not len(kept):
        return None
    low, high = percentiles(bootstrap_means(kept, count, seed))
    return Estimate(float(kept.mean()), low, high, len(kept))


def paired_difference(
    a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]], *, count: int = 2000, seed: int = 0
) -> Estimate | None:
    """Mean of a − b over the same prompts with its interval; both must be defined on the same prompts.

    Raises :class:`DataError` when they are not, as a difference would then compare different prompts.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
        raise DataError(f"paired difference: the two sides cover other prompts ({a.shape} and {b.shape})")
    return estimate(a - b, count=count, seed=seed)


def bootstrap_means(values: NDArray[np.float64], count: int, seed: int) -> NDArray[np.float64]:
    """Means of ``count`` resamples of ``values`` [n]."""
    return np.concatenate([values[index].mean(1) for index in resamples(len(values), count, seed)])


def percentiles(draws: NDArray[np.float64]) -> tuple[float, float]:
    """The central 95 % of ``draws``."""
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
