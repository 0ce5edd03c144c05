"""Whether a decoded picture holds the edges that it was given."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from eclipse.data.control import canny

_REACH = np.ones((3, 3), np.uint8)  # one pixel in every direction


def edge_f1(decoded: NDArray[np.uint8], real: NDArray[np.uint8]) -> NDArray[np.float64]:
    """F1 of the Canny edges of ``decoded`` and ``real``, float64 [N]; a pixel beside an edge counts as on it.

    Precision is the share of decoded edge pixels that touch a real one, recall the share of real ones that touch a
    decoded one. ``decoded`` uint8 [N, H, W, 3] is scaled to the size of ``real`` [N, h, w, 3] first. NaN where the real
    picture has no edges, 0 where only the decoded one has none.
    """
    pairs = zip(decoded, real, strict=True)
    return np.array([_f1(_edges(_fitted(one, other)), _edges(other)) for one, other in pairs], np.float64)


def _f1(found: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float:
    if not wanted.any():
        return float("nan")
    hits, reached = (found & _widened(wanted)).sum(), (wanted & _widened(found)).sum()
    if not hits:
        return 0.0
    precision, recall = hits / found.sum(), reached / wanted.sum()
    return float(2 * precision * recall / (precision + recall))


def _edges(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray(canny(image)[..., 0] > 0)


def _widened(edges: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(cv2.dilate(edges.astype(np.uint8), _REACH) > 0)


def _fitted(image: NDArray[np.uint8], like: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if image.shape == like.shape:
        return image
    return np.asarray(cv2.resize(image, (like.shape[1], like.shape[0]), interpolation=cv2.INTER_AREA))
