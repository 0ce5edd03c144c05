"""PNG files that carry text: written in one way, and read so that nothing beside the pixels can change what is seen."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, PngImagePlugin

from eclipse.data.images import MAX_PIXELS
from eclipse.errors import DataError

_START = b"\x89PNG\r\n\x1a\n"
_RGB8 = b"\x08\x02\x00\x00\x00"  # 8 bits a channel, RGB, the one compression, the one filter set, not interlaced
_CREDENTIALS = b"caBX"
_KEPT = {b"IHDR", b"IDAT", b"IEND", b"tEXt", b"zTXt", b"iTXt", b"tIME", b"pHYs", _CREDENTIALS}
"""Chunks that leave a picture as its pixels are. Others can animate, turn or recolour what a viewer shows."""


@dataclass(frozen=True)
class TextPng:
    """A PNG as read: ``image`` uint8 [H, W, 3], ``texts`` keyword → text, and whether it holds C2PA credentials."""

    image: NDArray[np.uint8]
    texts: Mapping[str, str]
    has_credentials: bool


def write_png(image: NDArray[np.uint8], texts: Mapping[str, str]) -> bytes:
    """PNG bytes of ``image`` uint8 [H, W, 3] with an iTXt chunk (UTF-8) for each of ``texts``; the same each time."""
    info = PngImagePlugin.PngInfo()
    for keyword, text in texts.items():
        info.add_itxt(keyword, text)
    buffer = io.BytesIO()
    Image.fromarray(image, "RGB").save(buffer, "PNG", compress_level=6, pnginfo=info)
    return buffer.getvalue()


def read_png(content: bytes, name: str) -> TextPng:
    """Read what :func:`write_png` wrote, maybe with credentials or other texts added since.

    Only uncompressed iTXt chunks are read as texts. :class:`DataError` naming ``name`` for what is no PNG, is damaged
    (each chunk's checksum counts), is not 8-bit RGB, goes on after its end, has a keyword twice, or holds a chunk that
    may change how the pixels are shown.
    """
    texts: dict[str, str] = {}
    kinds = set()
    for kind, data in _chunks(content, name):
        if kind not in _KEPT:
            raise DataError(
                f"{name}: holds a {kind.decode('latin-1')} chunk, which may change how its pixels are shown; give the "
                "file as the service made it"
            )
        kinds.add(kind)
        if kind == b"IHDR":
            _check_header(data, name)
        elif kind == b"iTXt":
            keyword, text = _text(data, name)
            if keyword in texts:
                raise DataError(f"{name}: has two texts {keyword!r}; give the file as the service made it")
            texts[keyword] = text
    return TextPng(_pixels(content, name), texts, _CREDENTIALS in kinds)


def _chunks(content: bytes, name: str) -> Iterator[tuple[bytes, bytes]]:
    if not content.startswith(_START):
        raise DataError(f"{name}: is not a PNG; manifests are kept by PNG files only")
    at, kind = len(_START), b""
    while kind != b"IEND":
        head = content[at : at + 8]
        length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (0, b"")
        data, end = content[at + 8 : at + 8 + length], at + 12 + length
        if len(head) < 8 or end > len(content):
            raise DataError(f"{name}: the PNG ends too early; copy or fetch it again")
        if zlib.crc32(kind + data) != int.from_bytes(content[end - 4 : end], "big"):
            raise DataError(f"{name}: the PNG is damaged (checksum of its {kind.decode('latin-1')} chunk)")
        yield kind, data
        at = end
    if at != len(content):
        raise DataError(f"{name}: {len(content) - at} bytes follow the end of the PNG; give the file as it was made")


def _check_header(data: bytes, name: str) -> None:
    if len(data) != 13 or data[8:] != _RGB8:
        raise DataError(f"{name}: is not an 8-bit RGB PNG; the service makes no other, so it was converted")
    width, height = struct.unpack(">II", data[:8])
    if width * height > MAX_PIXELS:
        raise DataError(f"{name}: {width} × {height} pixels, but at most {MAX_PIXELS // 10**6} million are read")


def _text(data: bytes, name: str) -> tuple[str, str]:
    try:
        keyword, rest = data.split(b"\0", 1)
        flags, (_, _, text) = rest[:2], rest[2:].split(b"\0", 2)
        if flags != b"\0\0":
            raise DataError(f"{name}: holds a compressed text; give the file as the service made it")
        return keyword.decode("latin-1"), text.decode("utf-8")
    except ValueError as error:
        raise DataError(f"{name}: a text in the PNG is damaged ({error})") from None


def _pixels(content: bytes, name: str) -> NDArray[np.uint8]:
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # some libraries switch it on for the whole process
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise DataError(f"{name}: the PNG is damaged ({' '.join(str(error).split())})") from None
