"""A person's picture files, of whatever kind, as the pictures of subjects that priors are trained with."""

from __future__ import annotations

import logging
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from eclipse.data.crops import crop_on_white
from eclipse.data.images import MAX_PIXELS
from eclipse.errors import DataError
from eclipse.personalize.segment import foreground

log = logging.getLogger(__name__)

WORKING = 1024
"""Longest side in pixels that is kept; larger pictures are scaled down on reading."""
SMALLEST = 8
"""Shortest side in pixels of a usable picture."""

_WHITE, _WHITE_SHARE = 240, 0.9  # the border's pixels that count as white, and how many must
_REMEDY = "give a whole PNG, JPEG or WebP file"


@dataclass(frozen=True)
class Picture:
    """``image`` uint8 [H, W, 3], laid on white; ``mask`` uint8 {0, 1} [H, W] of the subject, None where unknown."""

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None = None


def load_picture(path: Path) -> Picture:
    """Read a picture file: upright by its EXIF, transparency laid on white and kept as mask, at most 1024 px a side.

    Grey, palette, CMYK and 16-bit pictures are right too (16 bits are scaled, not clipped). A picture larger than 64
    megapixels is refused unread; JPEGs are decoded at 1/2, 1/4 or 1/8 where that is enough, and the limit is on what
    is decoded, so that about half a gigabyte is the most that a file can take. Refusals, also of pictures under 8 px,
    are a :class:`DataError` that names the file.
    """
    return read_picture(path, str(path))


def read_picture(source: Path | BinaryIO, name: str) -> Picture:
    """What :func:`load_picture` says, of a file or of an open one's bytes; ``name`` is what errors call it."""
    image = _opened(source, name)
    if max(image.size) > WORKING:
        image.thumbnail((WORKING, WORKING), Image.Resampling.LANCZOS)
    if image.mode == "RGB":
        return Picture(np.array(image))
    alpha = np.asarray(image.getchannel("A"))
    flat = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    mask = (alpha > 127).astype(np.uint8)
    if not mask.any():
        raise DataError(f"{name}: is wholly transparent; give a picture with its subject visible")
    return Picture(np.array(flat), None if mask.all() else mask)


def load_subject(path: Path, *, segment: bool = False) -> Picture:
    """A subject's picture; without mask and white border it is cut out if ``segment``, else whole, with a warning.

    A picture with a white border but no transparency is taken as a finished crop on white, with ``segment`` too.
    """
    picture = load_picture(path)
    if picture.mask is not None or has_white_border(picture.image):
        return picture
    if segment:
        return Picture(picture.image, foreground(picture.image, str(path)))
    log.warning(
        "warning: %s: its background is neither transparent nor white, so it becomes part of the subject; "
        "add --segment to remove it",
        path,
    )
    return picture


def subject_picture(picture: Picture, size: int) -> NDArray[np.uint8]:
    """The subject alone on white, uint8 [size, size, 3]: cropped around its mask, or all of it fitted to the square."""
    if picture.mask is None:
        return _fitted(picture.image, size)
    image, mask = picture.image, picture.mask
    side, margin = _side_and_margin(mask)
    if side < SMALLEST:
        raise DataError(f"a subject of only {side} pixels: at least {SMALLEST} are needed; give a larger picture of it")
    scale = size / (side + 2 * margin)
    if scale < 1:  # the crop takes the nearest pixels, which would break up fine texture when it shrinks
        alone = Image.fromarray(np.where(mask[..., None] > 0, image, np.uint8(255)))
        smaller = (max(1, round(alone.width * scale)), max(1, round(alone.height * scale)))
        image = np.asarray(alone.resize(smaller, Image.Resampling.LANCZOS))
        coverage = np.asarray(Image.fromarray(mask * 255).resize(smaller, Image.Resampling.BOX))
        mask = (coverage > 127).astype(np.uint8)
        _, margin = _side_and_margin(mask)
    return crop_on_white(image, mask, size=size, margin=margin)


def has_white_border(image: NDArray[np.uint8]) -> bool:
    """Whether nine in ten of the outermost pixels of ``image`` uint8 [H, W, 3] are white or nearly so."""
    ring = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    return bool((ring.min(axis=1) >= _WHITE).mean() >= _WHITE_SHARE)


def _side_and_margin(mask: NDArray[np.uint8]) -> tuple[int, int]:
    rows, columns = np.nonzero(mask)
    side = int(max(np.ptp(rows), np.ptp(columns))) + 1
    return side, max(3, side // 16)


def _fitted(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    side = max(height, width)
    square = Image.new("RGB", (side, side), "white")
    square.paste(Image.fromarray(image), ((side - width) // 2, (side - height) // 2))
    return np.array(square if side == size else square.resize((size, size), Image.Resampling.BICUBIC))


def _opened(source: Path | BinaryIO, name: str) -> Image.Image:
    """The picture upright and with 8 bits a channel, RGBA where something may be transparent, else RGB."""
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # some libraries switch it on for the whole process
    try:
        with _without_pillows_limit(), Image.open(source) as image:
            _check_size(image, name)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return _eight_bits(image, name)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, KeyError, TypeError) as error:
        raise DataError(f"{name}: {_why(error)}; {_REMEDY}") from None


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if min(width, height) < SMALLEST:
        raise DataError(f"{name}: {width} × {height} pixels; at least {SMALLEST} × {SMALLEST} are needed")
    scale = WORKING / max(width, height)
    if scale < 1:
        image.draft(None, (max(1, round(width * scale)), max(1, round(height * scale))))
    if image.width * image.height > MAX_PIXELS:
        raise DataError(
            f"{name}: {width} × {height} pixels, but at most {MAX_PIXELS // 10**6} million are read; scale it down"
        )


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "F":
        raise DataError(f"{name}: its pixels are fractions of no known range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # PIL would clip 16-bit grey at 255 instead of scaling it
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise DataError(f"{name}: has more than 16 bits a pixel; save it with 8 or 16 bits")
        image = Image.fromarray((values >> 8).astype(np.uint8))
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _why(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "is not a picture"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"is damaged ({' '.join(str(error).split())})"


@contextmanager
def _without_pillows_limit() -> Iterator[None]:
    """Pillow refuses on opening; here the limit is on what is really decoded, after JPEG's reduction."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd EXIF blocks and palettes
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
