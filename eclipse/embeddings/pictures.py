"""PNG bytes of records to arrays."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eclipse.data.records import Record
from eclipse.errors import DataError


def decode_images(records: Sequence[Record], where: str) -> NDArray[np.uint8]:
    """PNG bytes to uint8 [N, H, W, 3]; all of one size, as every dataset stage writes them."""
    images = [decode_picture(record.image, f"{where}: record {record.id}: image") for record in records]
    for record, image in zip(records, images, strict=True):
        if image.shape != images[0].shape:
            raise DataError(
                f"{where}: record {record.id}: image is {image.shape[1]}×{image.shape[0]}, its neighbours are "
                f"{images[0].shape[1]}×{images[0].shape[0]}; run the dataset stage again"
            )
    return np.stack(images)


def decode_picture(content: bytes, what: str) -> NDArray[np.uint8]:
    """PNG bytes to uint8 [H, W, 3]; ``what`` names them in the :class:`DataError` of damaged ones."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{what} cannot be decoded ({error}); replace or drop it") from None


def picture_size(content: bytes, what: str) -> tuple[int, int]:
    """(width, height) of PNG bytes, from their header alone; errors as of :func:`decode_picture`."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.size
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{what} cannot be decoded ({error}); replace or drop it") from None
