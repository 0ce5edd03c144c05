"""Picture files of every kind, good and bad."""

from __future__ import annotations

import io
import logging
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from eclipse.errors import DataError
from eclipse.personalize import picture
from eclipse.personalize.picture import Picture, has_white_border, load_picture, load_subject, subject_picture

RED, BLUE = (200, 30, 40), (20, 60, 210)


def halves(size=(40, 30)) -> np.ndarray:
    """Left half red, right half blue."""
    image = np.empty((size[1], size[0], 3), np.uint8)
    image[:, : size[0] // 2], image[:, size[0] // 2 :] = RED, BLUE
    return image


def saved(tmp_path: Path, image: Image.Image, name="x.png", **options) -> Path:
    image.save(tmp_path / name, **options)
    return tmp_path / name


class TestKinds:
    def test_a_plain_picture_comes_as_it_is(self, tmp_path):
        loaded = load_picture(saved(tmp_path, Image.fromarray(halves())))
        assert np.array_equal(loaded.image, halves()) and loaded.mask is None

    def test_alpha_is_laid_on_white_and_becomes_the_mask(self, tmp_path):
        alpha = np.zeros((30, 40), np.uint8)
        alpha[5:15, 4:30] = 255
        alpha[20, 20] = 100
        rgba = np.dstack([halves(), alpha])
        loaded = load_picture(saved(tmp_path, Image.fromarray(rgba)))
        assert np.array_equal(loaded.mask, alpha > 127) and loaded.mask.dtype == np.uint8
        assert np.array_equal(loaded.image[5:15, 4:30], halves()[5:15, 4:30])
        assert (loaded.image[0, 0] == 255).all()
        faint = np.array(BLUE) * 100 / 255 + 255 * 155 / 255
        assert np.abs(loaded.image[20, 20] - faint).max() <= 1

    def test_an_opaque_alpha_channel_is_no_mask(self, tmp_path):
        assert load_picture(saved(tmp_path, Image.fromarray(halves()).convert("RGBA"))).mask is None

    def test_palette_and_grey_with_a_transparent_entry(self, tmp_path):
        palette = Image.fromarray(halves()).quantize(4)
        clear = palette.getpixel((39, 0))
        loaded = load_picture(saved(tmp_path, palette, transparency=clear))
        assert loaded.mask[:, :20].all() and not loaded.mask[:, 20:].any()
        assert np.abs(loaded.image[0, 0].astype(int) - RED).max() <= 8 and (loaded.image[0, 39] == 255).all()
        grey = Image.fromarray(np.tile(np.arange(0, 200, 5, dtype=np.uint8), (20, 1)))
        loaded = load_picture(saved(tmp_path, grey, transparency=0))
        assert not loaded.mask[:, 0].any() and loaded.mask[:, 1:].all()

    @pytest.mark.parametrize("mode", ["L", "1", "LA", "CMYK", "YCbCr"])
    def test_other_modes_keep_their_brightness(self, tmp_path, mode):
        grey = np.zeros((20, 20), np.uint8)
        grey[:, 10:] = 255 if mode == "1" else 180
        name = "x.jpg" if mode in ("CMYK", "YCbCr") else "x.png"
        loaded = load_picture(saved(tmp_path, Image.fromarray(grey).convert(mode), name))
        assert loaded.image.shape == (20, 20, 3) and loaded.mask is None
        assert np.abs(loaded.image[:, [2, 17]].astype(int) - grey[:, [2, 17], None]).max() <= 4

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_sixteen_bits_are_scaled_and_not_clipped(self, tmp_path, channels):
        ramp = np.linspace(0, 65535, 64).astype(np.uint16)
        image = np.repeat(np.tile(ramp, (16, 1))[..., None], channels, axis=2)
        if channels == 4:
            image[..., 3] = 65535
        cv2.imwrite(str(tmp_path / "x.png"), image)
        loaded = load_picture(tmp_path / "x.png")
        assert np.abs(loaded.image[3, :, 1] - ramp / 257).max() <= 1

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_turns_it_upright(self, tmp_path, orientation):
        upright = np.kron(np.array([[0, 80], [160, 240]], np.uint8), np.ones((16, 24), np.uint8))
        back = {  # from upright to how a camera held otherwise stores it
            1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.T,
            6: lambda a: np.rot90(a, 1), 7: lambda a: np.rot90(a, 2).T, 8: lambda a: np.rot90(a, -1),
        }  # fmt: skip
        stored = Image.fromarray(np.ascontiguousarray(back[orientation](upright)))
        exif = Image.Exif()
        exif[0x0112] = orientation
        loaded = load_picture(saved(tmp_path, stored, "x.jpg", exif=exif, quality=95))
        assert loaded.image.shape == (32, 48, 3)
        assert np.abs(loaded.image[..., 0].astype(int) - upright).max() <= 12


class TestSizes:
    def test_larger_ones_are_scaled_down(self, tmp_path):
        rgba = Image.fromarray(np.dstack([halves((2400, 600)), np.full((600, 2400), 255, np.uint8)]))
        rgba.putalpha(Image.fromarray(np.uint8(255) * (np.arange(2400) < 1200)[None].repeat(600, 0)))
        loaded = load_picture(saved(tmp_path, rgba))
        assert loaded.image.shape == (256, 1024, 3)
        assert loaded.mask[:, :510].all() and not loaded.mask[:, 514:].any()
        assert np.abs(loaded.image[100, 100].astype(int) - RED).max() <= 1

    def test_a_jpeg_of_20000_pixels_is_decoded_reduced(self, tmp_path, monkeypatch):
        path = saved(tmp_path, Image.fromarray(np.full((1600, 20000), 90, np.uint8)), "x.jpg")
        monkeypatch.setattr(picture, "MAX_PIXELS", 20000 * 1600 // 64)
        loaded = load_picture(path)
        assert loaded.image.shape == (82, 1024, 3) and np.abs(loaded.image.astype(int) - 90).max() <= 1
        monkeypatch.setattr(picture, "MAX_PIXELS", 20000 * 1600 // 64 - 1)
        with pytest.raises(DataError, match="x.jpg: 20000 × 1600 pixels, but at most"):
            load_picture(path)

    def test_a_png_of_20000_pixels_is_refused_unread_and_names_the_limit(self, tmp_path):
        header = b"IHDR" + struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
        chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
        (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9) + b"IDAT")
        before = Image.MAX_IMAGE_PIXELS
        with pytest.raises(DataError, match=r"x.png: 20000 × 20000 pixels, but at most 64 million are read"):
            load_picture(tmp_path / "x.png")
        assert before == Image.MAX_IMAGE_PIXELS

    @pytest.mark.parametrize("size", [(1, 1), (7, 100), (100, 7)])
    def test_too_small_ones_are_refused(self, tmp_path, size):
        with pytest.raises(DataError, match=rf"x.png: {size[0]} × {size[1]} pixels; at least 8 × 8"):
            load_picture(saved(tmp_path, Image.new("RGB", size)))
        load_picture(saved(tmp_path, Image.new("RGB", (8, 8))))


class TestDamage:
    def content(self, kind: str) -> bytes:
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noise).save(buffer, kind)
        return buffer.getvalue()

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
    @pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
    def test_truncated_files_are_refused(self, tmp_path, kind, share):
        whole = self.content(kind)
        (tmp_path / "cut").write_bytes(whole)
        load_picture(tmp_path / "cut")
        (tmp_path / "cut").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DataError, match=r"cut: .*; give a whole PNG, JPEG or WebP file$"):
            load_picture(tmp_path / "cut")

    def test_what_is_no_picture(self, tmp_path):
        (tmp_path / "a.txt").write_text("dog")
        (tmp_path / "empty.png").write_bytes(b"")
        for name, why in (
            ("a.txt", "not a picture"),
            ("empty.png", "not a picture"),
            ("none.png", "No such file or directory"),
            ("", "Is a directory"),
        ):
            with pytest.raises(DataError, match=rf"{why}; give a whole"):
                load_picture(tmp_path / name)

    def test_pixels_without_a_range(self, tmp_path):
        with pytest.raises(DataError, match="no known range"):
            load_picture(saved(tmp_path, Image.fromarray(np.ones((9, 9), np.float32)), "x.tif"))
        with pytest.raises(DataError, match="more than 16 bits"):
            load_picture(saved(tmp_path, Image.fromarray(np.full((9, 9), 70000, np.int32)), "x.tif"))

    def test_one_that_shows_nothing(self, tmp_path):
        with pytest.raises(DataError, match="wholly transparent"):
            load_picture(saved(tmp_path, Image.new("RGBA", (20, 20), (255, 0, 0, 0))))


def disc(background) -> np.ndarray:
    """A red disc of radius 20 around (50, 40) on ``background``, [80, 100, 3]."""
    y, x = np.mgrid[:80, :100]
    return np.where(((x - 50) ** 2 + (y - 40) ** 2 < 400)[..., None], RED, background).astype(np.uint8)


class TestSubject:
    def test_without_mask_there_is_a_warning_that_names_the_flag(self, tmp_path, caplog):
        path = saved(tmp_path, Image.fromarray(disc(BLUE)))
        with caplog.at_level(logging.WARNING):
            assert load_subject(path).mask is None
        (record,) = caplog.records
        assert "x.png" in record.getMessage() and "--segment" in record.getMessage()

    def test_segment_masks_it_without_a_warning(self, tmp_path, caplog):
        loaded = load_subject(saved(tmp_path, Image.fromarray(disc(BLUE))), segment=True)
        right = (disc((0, 0, 0)).any(axis=2) == (loaded.mask > 0)).mean()
        assert right > 0.99 and not caplog.records

    @pytest.mark.parametrize("segment", [False, True])
    def test_masked_ones_and_those_on_white_are_left_alone(self, tmp_path, caplog, segment):
        rgba = np.dstack([disc(BLUE), np.uint8(255) * (np.arange(100) < 50)[None].repeat(80, 0)])
        masked = load_subject(saved(tmp_path, Image.fromarray(rgba), "a.png"), segment=segment)
        assert masked.mask[:, :50].all() and not masked.mask[:, 50:].any()
        white = load_subject(saved(tmp_path, Image.fromarray(disc((250, 250, 250))), "b.png"), segment=segment)
        assert white.mask is None and not caplog.records

    def test_white_border_may_be_touched_a_little(self):
        image = np.full((50, 50, 3), 255, np.uint8)
        image[20:30, :30] = RED
        assert has_white_border(image)
        image[10:45, :30] = RED
        assert not has_white_border(image)


class TestSubjectPicture:
    def test_one_of_the_right_size_on_white_is_untouched(self):
        image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        assert np.array_equal(subject_picture(Picture(image), 64), image)

    def test_without_mask_all_of_it_is_fitted_and_padded_with_white(self):
        fitted = subject_picture(Picture(np.full((64, 128, 3), 30, np.uint8)), 64)
        assert (fitted[:14] == 255).all() and (fitted[-14:] == 255).all() and (fitted[18:46] == 30).all()

    @pytest.mark.parametrize("factor", [1, 5])
    def test_with_a_mask_it_is_cropped_on_white_whatever_the_resolution(self, factor):
        mask = np.zeros((80, 100), np.uint8)
        mask[30:50, 10:50] = 1  # 40 wide, 20 high
        image = np.where(mask[..., None] > 0, RED, BLUE).astype(np.uint8)
        large = Picture(image.repeat(factor, 0).repeat(factor, 1), mask.repeat(factor, 0).repeat(factor, 1))
        crop = subject_picture(large, 64)
        red = (np.abs(crop.astype(int) - RED) <= 12).all(axis=2)
        assert red[24:40, 8:56].all()
        blue = (crop[..., 2].astype(int) - crop[..., 0]) > 50
        assert not blue.any() and (crop[0] == 255).all() and (crop[:, 0] == 255).all()
        rows, columns = np.nonzero((crop < 128).any(axis=2))
        assert abs(np.ptp(columns) + 1 - 56) <= 3 and abs(np.ptp(rows) + 1 - 28) <= 3

    def test_fine_texture_is_averaged_and_not_broken_up(self):
        board = np.indices((640, 640)).sum(0) % 2 * 200
        crop = subject_picture(Picture(np.uint8(board)[..., None].repeat(3, 2), np.ones((640, 640), np.uint8)), 64)
        assert np.abs(crop[20:44, 20:44].astype(int) - 100).max() <= 10

    def test_a_subject_of_a_few_pixels_is_refused(self):
        mask = np.zeros((80, 80), np.uint8)
        mask[10:17, 10:14] = 1
        with pytest.raises(DataError, match="only 7 pixels"):
            subject_picture(Picture(np.zeros((80, 80, 3), np.uint8), mask), 64)
