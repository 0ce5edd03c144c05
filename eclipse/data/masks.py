"""Object masks small enough to travel in a record's metadata: COCO's uncompressed run-length encoding."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eclipse.errors import DataError


def encode_mask(mask: NDArray[np.uint8]) -> dict[str, list[int]]:
    """``{"size": [H, W], "counts": […]}`` of a {0, 1} mask (H, W): runs down the columns, the first one of zeros."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate(([0], edges, [flat.size]))).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


def decode_mask(encoded: dict[str, Any]) -> NDArray[np.uint8]:
    """The {0, 1} mask uint8 (H, W) that :func:`encode_mask` was given; a wrong total length is a :class:`DataError`."""
    height, width = encoded["size"]
    counts = encoded["counts"]
    if sum(counts) != height * width:
        raise DataError(f"mask runs add up to {sum(counts)}, not {height} × {width}; the record is damaged")
    flat = np.repeat(np.arange(len(counts)) % 2, counts).astype(np.uint8)
    return flat.reshape((height, width), order="F")


def box(mask: NDArray[np.uint8]) -> list[int]:
    """``[x0, y0, x1, y1]`` around a mask's pixels, the upper bounds exclusive."""
    rows, columns = np.nonzero(mask)
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
