"""Pictures in requests: bytes or base64, judged by their header before anything is unpacked."""

from __future__ import annotations

import base64
import binascii
import io
import re
import struct
import threading
import warnings

from PIL import Image

from eclipse.errors import DataError
from eclipse.personalize.picture import Picture, read_picture
from eclipse.serve.errors import ApiError

FORMATS = ("PNG", "JPEG", "WEBP")

_DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,", re.ASCII)
_LOOKS_LIKE_PLACE = re.compile(r"[a-z][a-z0-9+.-]*:|[/~.\\]", re.IGNORECASE)
_one_at_a_time = threading.Lock()


def from_text(text: str, param: str) -> bytes:
    """The bytes of a picture in base64 or in a ``data:`` URL; any other URL or a path is an :class:`ApiError` 400."""
    start = _DATA_URL.match(text[:100])
    if start is None and _LOOKS_LIKE_PLACE.match(text) and not text.startswith("/9j/"):  # which JPEGs begin with
        raise ApiError(
            400, f"{param}: no URL or path is ever opened; send the picture in base64 or as a data: URL", param=param
        )
    try:
        return base64.b64decode(text[start.end() if start else 0 :], validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, f"{param}: is not base64", param=param) from None


def read(content: bytes, param: str, max_pixels: int) -> Picture:
    """The picture in ``content``, see :func:`eclipse.personalize.picture.read_picture`.

    :class:`ApiError` 400 for any other format than :data:`FORMATS`, damage, or more than ``max_pixels``. Pictures are
    unpacked one at a time, so that many requests take no more memory for it than one.
    """
    with _one_at_a_time:
        _check_header(content, param, max_pixels)
        try:
            return read_picture(io.BytesIO(content), param)
        except DataError as error:
            raise ApiError(400, str(error), param=param, code="invalid_image") from None


def _check_header(content: bytes, param: str, max_pixels: int) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                width, height = image.size
    except Image.DecompressionBombError:
        raise _too_many_pixels(param, "its header promises more pixels", max_pixels) from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, KeyError, TypeError):
        message = f"{param}: is not a PNG, JPEG or WebP picture"
        raise ApiError(400, message, param=param, code="invalid_image") from None
    if width * height > max_pixels:
        raise _too_many_pixels(param, f"{width} × {height} pixels", max_pixels)


def _too_many_pixels(param: str, what: str, max_pixels: int) -> ApiError:
    message = f"{param}: {what}, but at most {max_pixels / 1e6:g} million are read; scale it down"
    return ApiError(400, message, param=param, code="image_too_large")
