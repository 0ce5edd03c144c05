"""Pictures in requests: what is opened, what is not, and when."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from eclipse.serve import pictures
from eclipse.serve.errors import ApiError


def encoded(kind="PNG", size=(20, 10), mode="RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, 200 if mode == "L" else (10, 200, 30)).save(buffer, kind)
    return buffer.getvalue()


def bomb(side: int) -> bytes:
    """A PNG of a few bytes whose header promises ``side`` × ``side`` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


class TestText:
    @pytest.mark.parametrize("kind", pictures.FORMATS)
    def test_base64_and_data_urls_are_read(self, kind):
        content = encoded(kind)
        text = base64.b64encode(content).decode()
        assert pictures.from_text(text, "edges") == content
        assert pictures.from_text(f"data:image/{kind.lower()};base64,{text}", "edges") == content

    @pytest.mark.parametrize(
        "text",
        [
            "http://example.com/a.png",
            "https://example.com/a.png",
            "file:///etc/passwd",
            "ftp://example.com/a.png",
            "/etc/passwd",
            "../../etc/passwd",
            "~/a.png",
            "./a.png",
            "C:\\a.png",
            "data:text/plain,hello",
            "data:image/svg+xml;utf8,<svg/>",
        ],
    )
    def test_places_are_refused_and_never_opened(self, text):
        with pytest.raises(ApiError, match="edges: (no URL or path is ever opened|is not base64)") as raised:
            pictures.from_text(text, "edges")
        assert raised.value.status_code == 400 and raised.value.param == "edges"

    def test_what_is_no_base64_is_refused(self):
        with pytest.raises(ApiError, match="is not base64"):
            pictures.from_text("abc$", "edges")


class TestReading:
    @pytest.mark.parametrize("kind", pictures.FORMATS)
    def test_the_three_formats_are_read(self, kind):
        assert pictures.read(encoded(kind), "image", 10**6).image.shape == (10, 20, 3)

    @pytest.mark.parametrize("kind", ["BMP", "GIF", "TIFF", "PPM", "ICO"])
    def test_no_other_format_is(self, kind):
        with pytest.raises(ApiError, match="image: is not a PNG, JPEG or WebP picture") as raised:
            pictures.read(encoded(kind, (32, 32)), "image", 10**6)
        assert raised.value.code == "invalid_image"

    @pytest.mark.parametrize(
        "content", [b"", b"\x89PNG\r\n\x1a\n", b"<svg/>", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\0" * 99]
    )
    def test_what_is_none_is_refused(self, content):
        with pytest.raises(ApiError):
            pictures.read(content, "image", 10**6)

    def test_the_limit_is_on_the_headers_pixels_and_nothing_is_unpacked(self, monkeypatch):
        monkeypatch.setattr(pictures, "read_picture", lambda *_: pytest.fail("was unpacked"))
        for side in (1001, 20_000, 2**31 - 1):
            with pytest.raises(ApiError, match="image: .*at most 1 million are read") as raised:
                pictures.read(bomb(side), "image", 10**6)
            assert raised.value.code == "image_too_large"

    def test_a_damaged_picture_is_refused_by_its_field(self):
        noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noise).save(buffer, "PNG")
        with pytest.raises(ApiError, match="subjects.0.image: is damaged"):
            pictures.read(buffer.getvalue()[:5000], "subjects.0.image", 10**6)

    def test_too_small_a_picture_is_refused(self):
        with pytest.raises(ApiError, match=r"image: 7 × 7 pixels; at least 8 × 8"):
            pictures.read(encoded(size=(7, 7)), "image", 10**6)
