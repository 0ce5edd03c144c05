"""Image files to fitted uint8 squares and back to PNG; a damaged file never becomes half a picture."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from eclipse.errors import DataError

MAX_PIXELS = 64_000_000  # a larger picture is refused before it is unpacked


class BombError(DataError):
    """An image whose unpacked size would exhaust memory."""


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """PNG bytes of an RGB picture, uint8 (H, W, 3); the same picture gives the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image, "RGB").save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def decode_png(content: bytes, name: str = "image") -> NDArray[np.uint8]:
    """RGB uint8 (H, W, 3) of an image file's bytes; ``name`` is what the error calls it."""
    return np.asarray(_load(content, name).convert("RGB"))


def load_fitted(content: bytes, name: str, *, size: int, background: tuple[int, int, int]) -> NDArray[np.uint8]:
    """An image file's bytes as uint8 (size, size, 3).

    EXIF orientation is applied, transparency is laid over ``background``, and the picture is scaled to fit with its
    aspect kept, centred, the rest padded with ``background``. Raises :class:`DataError` naming ``name``.
    """
    image = ImageOps.exif_transpose(_load(content, name))
    if image.mode.startswith("I"):  # PIL would clip 16-bit grey at 255 instead of scaling it
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8), "L")
    if image.mode not in ("RGBA", "RGB", "L", "LA", "P", "PA"):
        image = image.convert("RGB")
    image = image.convert("RGBA")
    backdrop = Image.new("RGBA", image.size, (*background, 255))
    flat = Image.alpha_composite(backdrop, image).convert("RGB")
    scale = size / max(flat.size)
    width, height = (max(1, round(side * scale)) for side in flat.size)
    square = Image.new("RGB", (size, size), background)
    square.paste(flat.resize((width, height), Image.Resampling.LANCZOS), ((size - width) // 2, (size - height) // 2))
    return np.asarray(square)


def _load(content: bytes, name: str) -> Image.Image:
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # some libraries switch it on for the whole process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content))
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError(f"{image.width} × {image.height} pixels")
        image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BombError(f"{name}: image is too large to unpack safely ({error}); scale it down") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError) as error:
        reason = "not an image" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise DataError(f"{name}: image is damaged ({reason}); replace it or set data.tolerate=true") from None
    return image
