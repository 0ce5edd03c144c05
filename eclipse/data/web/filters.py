"""What metadata alone says against a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from eclipse.config.data import WebParams

NUMBERS = ("width", "height", "similarity", "unsafe", "watermark")
"""What the filters look at; float64, NaN where nothing is said."""


def passing(numbers: Mapping[str, NDArray[np.float64]], web: WebParams) -> tuple[NDArray[np.bool_], Counter[str]]:
    """Which rows pass all filters of ``web``, bool [N], and how many were left out by which.

    ``numbers`` has float64 [N] under each name of :data:`NUMBERS`. A row counts for the first filter that it fails;
    one that does not say what the filter asks for counts as ``<filter>_unknown``.
    """
    left = np.ones(len(numbers["width"]), bool)
    dropped: Counter[str] = Counter()
    for name, value, good in _checks(numbers, web):
        for reason, bad in ((f"{name}_unknown", np.isnan(value)), (name, ~good)):
            count = int((left & bad).sum())
            if count:
                dropped[reason] += count
            left &= ~bad
    return left, dropped


def _checks(
    numbers: Mapping[str, NDArray[np.float64]], web: WebParams
) -> list[tuple[str, NDArray[np.float64], NDArray[np.bool_]]]:
    """(name, what it looks at, whether that is good) of each filter that is set."""
    checks = []
    short = np.minimum(numbers["width"], numbers["height"])
    if web.min_side is not None:
        checks.append(("min_side", short, short >= web.min_side))
    if web.max_aspect is not None:
        known = np.where(short > 0, short, np.nan)
        with np.errstate(over="ignore"):
            aspect = np.maximum(numbers["width"], numbers["height"]) / known
        checks.append(("max_aspect", aspect, aspect <= web.max_aspect))
    if web.max_unsafe is not None:
        checks.append(("max_unsafe", numbers["unsafe"], numbers["unsafe"] <= web.max_unsafe))
    if web.max_watermark is not None:
        checks.append(("max_watermark", numbers["watermark"], numbers["watermark"] <= web.max_watermark))
    if web.min_similarity is not None:
        checks.append(("min_similarity", numbers["similarity"], numbers["similarity"] >= web.min_similarity))
    return checks
