"""The paper's rules for pictures and boxes (arXiv 2402.05195, appendix), each named like its parameter.

Every rule says True for what stays. What a rule removed is counted under its name, see :mod:`eclipse.annotate.funnel`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eclipse.annotate.interfaces import Box, Corners, Picture
from eclipse.config.subjects import FilterParams

_WHITE = 250  # of 255 in every channel: compression leaves few backgrounds exactly white


def white(image: Picture, params: FilterParams) -> bool:
    """Picture: at most ``white`` of its pixels are white."""
    return float((image >= _WHITE).all(-1).mean()) <= params.white


def box_threshold(scores: NDArray[np.float32], params: FilterParams) -> NDArray[np.bool_]:
    """Proposals: the detector's ``scores`` [Q] are at least ``box_threshold``."""
    return _float32_at_least(scores, params.box_threshold)


def text_threshold(words: NDArray[np.float32], params: FilterParams) -> NDArray[np.bool_]:
    """Proposals: the best of a proposal's phrases ``words`` [Q, N] has at least ``text_threshold``."""
    return _float32_at_least(words.max(1, initial=0.0), params.text_threshold)


def boxes(found: Sequence[Box], params: FilterParams) -> bool:
    """Picture: as many boxes as ``boxes`` allows (1 to 8)."""
    fewest, most = params.boxes
    return fewest <= len(found) <= most


def identical(found: Sequence[Box], params: FilterParams) -> bool:
    """Picture: no noun has more than ``identical`` boxes."""
    return max(Counter(box.phrase for box in found).values(), default=0) <= params.identical


def logit(box: Box, params: FilterParams) -> bool:
    """Box: its score is at least ``logit``."""
    return box.score >= params.logit


def ratio(corners: Corners, size: tuple[int, int], params: FilterParams) -> bool:
    """Box: its ratio is within ``ratio``. ``size`` is the picture's (height, width).

    ``ratio_of`` "sides": both width / picture's width and height / picture's height; "aspect": width / height.
    A box without area never stays.
    """
    x0, y0, x1, y1 = corners
    width, height = x1 - x0, y1 - y0
    if width <= 0 or height <= 0:
        return False
    ratios = (width / size[1], height / size[0]) if params.ratio_of == "sides" else (width / height,)
    smallest, largest = params.ratio
    return all(smallest <= value <= largest for value in ratios)


def mask_share(mask: NDArray[np.uint8], corners: Corners, params: FilterParams) -> bool:
    """Box: its ``mask`` {0, 1} (H, W) covers at least ``mask_share`` of it; an empty mask never stays."""
    x0, y0, x1, y1 = corners
    inside = int(mask[y0:y1, x0:x1].sum())
    return inside > 0 and inside >= params.mask_share * (x1 - x0) * (y1 - y0)


def subjects(count: int, params: FilterParams) -> bool:
    """Picture: as many subjects as ``subjects`` allows (1 to 4)."""
    fewest, most = params.subjects
    return fewest <= count <= most


def _float32_at_least(values: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    """Compared in float32, so that a score written as the threshold itself reaches it."""
    return values >= np.float32(threshold)
