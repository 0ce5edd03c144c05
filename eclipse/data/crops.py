"""A subject's picture: the masked object alone on white, as λ-ECLIPSE trains on (arXiv 2402.05195, §3.1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eclipse.errors import DataError


def crop_on_white(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], *, size: int, margin: int = 3
) -> NDArray[np.uint8]:
    """The masked object alone on white, cropped square with ``margin`` pixels around it and scaled (nearest).

    ``image`` is uint8 (H, W, 3), ``mask`` uint8 {0, 1} (H, W), the result uint8 (``size``, ``size``, 3). What the
    square takes in beyond the picture is white. A mask without a pixel is a :class:`DataError`.
    """
    rows, cols = np.nonzero(mask)
    if not rows.size:
        raise DataError("a subject's mask has no pixel; there is nothing to crop")
    height, width = mask.shape
    cy, cx = (rows.min() + rows.max() + 1) / 2, (cols.min() + cols.max() + 1) / 2
    half = max(np.ptp(rows), np.ptp(cols)) / 2 + margin
    alone = np.where(mask[..., None] > 0, image, np.uint8(255))
    at = np.linspace(-half, half, size)
    y, x = np.rint(cy + at - 0.5).astype(int), np.rint(cx + at - 0.5).astype(int)
    inside = ((y >= 0) & (y < height))[:, None] & ((x >= 0) & (x < width))[None, :]
    picked = alone[np.clip(y, 0, height - 1)][:, np.clip(x, 0, width - 1)]
    return np.where(inside[..., None], picked, np.uint8(255))
