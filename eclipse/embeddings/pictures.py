"""Picture files of records to what the encoder takes: decoded, traced and fitted, in any process, to the same bytes."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from eclipse.data.images import MAX_PIXELS
from eclipse.errors import DataError
from eclipse.models.fitting import Fit


@dataclass(frozen=True)
class Order:
    """Pictures to prepare: PNG or JPEG files' bytes, and what errors call each of them.

    ``fit`` is the CLIP's square. ``alike``: all must have one size, as in every dataset but those of the web.
    ``edges``: their Canny maps, made at their own size, are wanted too.
    """

    contents: tuple[bytes, ...]
    names: tuple[str, ...]
    fit: Fit
    alike: bool
    edges: bool


@dataclass(frozen=True)
class Prepared:
    """What an order asked for, in its order: ``pictures`` and ``edges`` (or None) uint8 [N, S, S, 3]."""

    pictures: NDArray[np.uint8]
    edges: NDArray[np.uint8] | None


def prepare(order: Order) -> Prepared:
    """Decode and fit. Raises :class:`DataError` naming a picture that is damaged, too large or of another size."""
    pictures, edges = [], []
    first: tuple[int, ...] | None = None
    for content, name in zip(order.contents, order.names, strict=True):
        image = decode_picture(content, name)
        first = first or image.shape
        if order.alike and image.shape != first:
            raise DataError(
                f"{name} is {image.shape[1]}×{image.shape[0]}, its neighbours are {first[1]}×{first[0]}; "
                "run the dataset stage again"
            )
        pictures.append(order.fit.picture(image))
        if order.edges:
            edges.append(order.fit.picture(_canny(image)))
    return Prepared(np.stack(pictures), np.stack(edges) if order.edges else None)


def decode_picture(content: bytes, what: str) -> NDArray[np.uint8]:
    """An image file's bytes to uint8 [H, W, 3]; ``what`` names them in the :class:`DataError` of damaged ones.

    Decoded in full and as stored: neither at a smaller scale, as JPEG would allow, nor turned by EXIF, for the data
    that CLIPs were trained on was not either.
    """
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # some libraries switch it on for the whole process
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} × {image.height} pixels are more than {MAX_PIXELS}")
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{what} cannot be decoded ({error}); replace or drop it") from None


def _canny(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from eclipse.data.control import canny  # OpenCV, which text-only data does not need

    return canny(image)
