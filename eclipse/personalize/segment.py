"""Background removal without weights: GrabCut (Rother et al. 2004), told that the picture's border is background."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from eclipse.errors import DataError

_SIDE = 512  # GrabCut's time grows with the pixels, and a subject picture is cropped to a CLIP's 64 to 384 anyway
_BORDER = 0.03  # of the shorter side, on each edge
_ROUNDS = 5
_PIECE = 0.05  # a piece smaller than this share of the largest is a speck
_LEAST, _MOST = 0.005, 0.98  # of the pixels inside the border


def foreground(image: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """The mask {0, 1} uint8 [H, W] of what stands before the background of ``image`` uint8 [H, W, 3].

    The subject should not touch the picture's border. The same picture gives the same mask. Where nothing or
    everything is foreground, a :class:`DataError` calls the picture ``name``.
    """
    height, width = image.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
    inside = _inside(small.shape[0], small.shape[1])
    found = _grab_cut(small, inside)
    share = found.sum() / max(1, inside.sum())
    if not _LEAST <= share <= _MOST:
        what = "no subject" if share < _LEAST else "no background"
        raise DataError(f"{name}: --segment finds {what} in it; cut the subject out yourself and save it as PNG")
    mask = _without_specks(found)
    return mask if scale == 1 else np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST))


def _inside(height: int, width: int) -> NDArray[np.bool_]:
    edge = max(1, round(_BORDER * min(height, width)))
    inside = np.zeros((height, width), bool)
    inside[edge:-edge, edge:-edge] = True
    return inside


def _grab_cut(image: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    labels = np.where(inside, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    background, subject = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)  # its colour clusters start at random
    bgr = np.ascontiguousarray(image[..., ::-1])
    try:
        cv2.grabCut(bgr, labels, None, background, subject, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # all pixels became one of the two: there are no two colours to tell apart
        return np.zeros(labels.shape, np.uint8)
    return np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)


def _without_specks(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0  # the background's
    return (areas >= _PIECE * areas.max())[pieces].astype(np.uint8)
