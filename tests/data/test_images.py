from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from eclipse.data.images import BombError, decode_png, encode_png, load_fitted
from eclipse.errors import DataError

GREEN = (0, 255, 0)


def _bytes(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _fit(content: bytes, size: int = 32) -> np.ndarray:
    return load_fitted(content, "x.png", size=size, background=GREEN)


def test_png_round_trip_is_lossless_and_deterministic():
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    assert np.array_equal(decode_png(encode_png(picture)), picture)
    assert encode_png(picture) == encode_png(picture.copy())


def test_aspect_is_kept_and_the_rest_is_background():
    fitted = _fit(_bytes(Image.new("RGB", (80, 40), (255, 0, 0))))
    assert fitted.shape == (32, 32, 3)
    assert fitted.dtype == np.uint8
    assert (fitted[8:24] == (255, 0, 0)).all()
    assert (fitted[:8] == GREEN).all()
    assert (fitted[24:] == GREEN).all()


def test_transparency_shows_the_background_and_not_hidden_colours():
    half = Image.new("RGBA", (32, 32), (255, 0, 255, 0))
    assert (_fit(_bytes(half)) == GREEN).all()
    half.putalpha(128)
    assert np.abs(_fit(_bytes(half))[0, 0].astype(int) - (128, 127, 128)).max() <= 1


def test_palette_transparency_counts_too():
    palette = Image.new("P", (32, 32), 0)
    palette.putpalette([9, 9, 9, 200, 0, 0])
    assert (_fit(_bytes(palette, transparency=0)) == GREEN).all()


def test_exif_orientation_is_applied():
    image = Image.new("RGB", (40, 40), "white")
    image.paste("black", (0, 0, 40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to view: what is on top goes to the right
    fitted = _fit(_bytes(image, "JPEG", exif=exif, quality=95))
    assert fitted[16, 28].max() < 40
    assert fitted[16, 3].min() > 215


def test_sixteen_bit_grey_is_scaled_and_not_clipped():
    grey = Image.fromarray(np.full((32, 32), 0x4000, np.uint16))
    assert (_fit(_bytes(grey)) == 0x40).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_every_common_mode_comes_out_as_rgb(mode, form):
    try:
        content = _bytes(Image.new(mode, (5, 300)), form)
    except OSError:
        pytest.skip(f"{form} has no {mode}")
    assert _fit(content).shape == (32, 32, 3)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_truncated_image_is_refused_even_where_a_library_allowed_them(form, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    content = _bytes(Image.fromarray(noise), form)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(DataError, match=r"x\.png: image is damaged"):
        _fit(content[: len(content) // 2])


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_what_is_no_image_is_refused(content):
    with pytest.raises(DataError, match=r"x\.png: image is damaged"):
        _fit(content)


@pytest.mark.parametrize("side", [9_000, 12_000, 60_000])
def test_decompression_bomb_is_refused_by_its_header(side):
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(BombError, match=r"x\.png: image is too large"):
        _fit(bomb)
