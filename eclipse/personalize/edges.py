"""The control picture: edges from a person's picture file, as λ-ECLIPSE is trained with them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from eclipse.data.control import canny
from eclipse.personalize.picture import Picture

_GREY = 8  # largest difference between channels of a picture without colour
_DARK, _LIGHT, _CLEAR = 40, 215, 0.97  # what counts as black and white, and the share that must be either
_THICK, _FILLED = 0.04, 0.1  # of the shorter side: more is no line; and the share of the white that may be so thick


def control_picture(picture: Picture, size: int) -> tuple[NDArray[np.uint8], bool]:
    """Edges uint8 [size, size, 3] of ``picture``, and whether it was an edge map already.

    A picture of another size or aspect is scaled until its shorter side fits and cropped at the centre. Canny follows
    on what that leaves, as in training; a picture that is already an edge map (see :func:`is_edge_map`) keeps its
    lines instead.
    """
    image = picture.image
    if not is_edge_map(image):
        return canny(_centre(_scaled(image, size), size)), False
    if image.shape == (size, size, 3):
        return image, True
    lines = np.where(image > 127, np.uint8(255), np.uint8(0))
    shrink = min(image.shape[:2]) / size
    if shrink <= 1:
        wide = _resized(lines, size, cv2.INTER_NEAREST)
    else:  # a line one pixel wide leaves 1 / shrink of its brightness in the pixels that it crosses
        wide = np.where(_resized(lines, size, cv2.INTER_AREA) > 127 / shrink, np.uint8(255), np.uint8(0))
    return _centre(wide, size), True


def is_edge_map(image: NDArray[np.uint8]) -> bool:
    """Whether ``image`` uint8 [H, W, 3] is white lines on black: no colour, hardly any grey, and thin.

    White silhouettes on black and drawings of black lines on white are none: Canny takes their outlines.
    """
    values = image.astype(np.int16)
    if np.ptp(values, axis=2).max() > _GREY:
        return False
    grey = values[..., 0]
    white = (grey >= _LIGHT).astype(np.uint8)
    if not white.any() or white.mean() + (grey <= _DARK).mean() < _CLEAR:
        return False
    thick = max(3, round(_THICK * min(white.shape)))
    return bool(cv2.erode(white, np.ones((thick, thick), np.uint8)).sum() <= _FILLED * white.sum())


def _scaled(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    if min(image.shape[:2]) == size:
        return image
    return _resized(image, size, cv2.INTER_AREA if min(image.shape[:2]) > size else cv2.INTER_CUBIC)


def _resized(image: NDArray[np.uint8], size: int, how: int) -> NDArray[np.uint8]:
    """With ``size`` pixels on the shorter side."""
    height, width = image.shape[:2]
    scale = size / min(height, width)
    target = (max(size, round(width * scale)), max(size, round(height * scale)))
    return np.asarray(cv2.resize(image, target, interpolation=how))


def _centre(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return np.ascontiguousarray(image[top : top + size, left : left + size])
