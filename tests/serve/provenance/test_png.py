"""PNG files with manifests: readable by others, and any change is found."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_manifests import chunks, joined, made_manifest, made_png, noise
from PIL import Image, PngImagePlugin

from eclipse.errors import DataError
from eclipse.serve.provenance.png import png_with_manifest, read_provenanced
from eclipse.serve.provenance.text_png import read_png, write_png
from eclipse.serve.types import Prompt

PNG = made_png()


def test_it_is_a_plain_png_to_others_with_the_manifest_as_text():
    with Image.open(io.BytesIO(PNG)) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (24, 16))
        assert (np.asarray(image) == noise()).all()
        assert image.text["eclipse.manifest"].startswith('{"compute":')
    assert [kind for kind, _ in chunks(PNG)] == [b"IHDR", b"iTXt", b"IDAT", b"IEND"]


def test_it_reads_back():
    found = read_provenanced(PNG, "x.png")
    assert (found.image == noise()).all()
    assert found.manifest == made_manifest()
    assert (found.signature, found.has_credentials) == (None, False)


def test_equal_pictures_and_manifests_give_equal_files():
    assert png_with_manifest(noise(), made_manifest(), None) == PNG


@given(st.text())
def test_any_unicode_prompt_survives(text):
    manifest = made_manifest(Prompt(text))
    found = read_provenanced(png_with_manifest(noise(), manifest, None), "x.png")
    assert found.manifest == manifest
    assert found.said.request.prompt == text


@given(st.integers(0, len(PNG) - 1), st.integers(1, 255))
def test_any_changed_byte_of_the_file_is_found(at, change):
    changed = bytearray(PNG)
    changed[at] ^= change
    with pytest.raises(DataError):
        read_provenanced(bytes(changed), "x.png")


@given(st.integers(0, noise().size - 1), st.integers(1, 255))
def test_any_changed_pixel_is_found(at, change):
    image = noise()
    image.reshape(-1)[at] ^= change
    with pytest.raises(DataError, match="pixels are not those of its manifest"):
        read_provenanced(png_with_manifest(image, made_manifest(), None), "x.png")


def test_a_changed_manifest_is_found_though_its_chunk_is_whole():
    parts = [(kind, data.replace(b"red star", b"red moon")) for kind, data in chunks(PNG)]
    with pytest.raises(DataError, match="not the one that its digest was taken of"):
        read_provenanced(joined(parts), "x.png")


def test_another_shape_of_the_same_bytes_is_another_picture():
    with pytest.raises(DataError, match="pixels"):
        read_provenanced(png_with_manifest(noise().reshape(24, 16, 3), made_manifest(), None), "x.png")


def test_saving_again_drops_the_manifest_and_the_error_says_so():
    buffer = io.BytesIO()
    Image.open(io.BytesIO(PNG)).save(buffer, "PNG")
    with pytest.raises(DataError, match="carries no manifest; .* saved it again dropped it"):
        read_provenanced(buffer.getvalue(), "x.png")


@pytest.mark.parametrize(("cut", "message"), [(5, "is not a PNG"), (30, "ends too early"), (-6, "ends too early")])
def test_a_cut_file_is_named(cut, message):
    with pytest.raises(DataError, match=f"^x.png: .*{message}"):
        read_provenanced(PNG[:cut], "x.png")


@pytest.mark.parametrize("kind", [b"acTL", b"gAMA", b"iCCP", b"tRNS", b"eXIf", b"abCd"])
def test_chunks_that_could_change_what_is_seen_are_refused(kind):
    parts = chunks(PNG)
    with pytest.raises(DataError, match=f"holds a {kind.decode()} chunk"):
        read_provenanced(joined([*parts[:1], (kind, b"\0" * 8), *parts[1:]]), "x.png")


def test_notes_of_others_do_no_harm():
    parts = chunks(PNG)
    note = (b"tEXt", b"Comment\0seen")
    assert read_provenanced(joined([*parts[:1], note, *parts[1:]]), "x.png").manifest == made_manifest()


def test_a_second_manifest_is_refused():
    parts = chunks(PNG)
    with pytest.raises(DataError, match=r"two texts 'eclipse\.manifest'"):
        read_provenanced(joined([*parts[:2], *parts[1:]]), "x.png")


def test_what_follows_the_end_is_refused():
    with pytest.raises(DataError, match="3 bytes follow the end"):
        read_provenanced(PNG + b"abc", "x.png")


@pytest.mark.parametrize("mode", ["RGBA", "L", "P"])
def test_converted_pictures_are_refused(mode):
    info, buffer = PngImagePlugin.PngInfo(), io.BytesIO()
    info.add_itxt("eclipse.manifest", "{}")
    Image.fromarray(noise()).convert(mode).save(buffer, "PNG", pnginfo=info)
    with pytest.raises(DataError, match="8-bit RGB|PLTE"):
        read_provenanced(buffer.getvalue(), "x.png")


def test_a_header_that_promises_too_much_is_refused_before_anything_is_unpacked():
    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    with pytest.raises(DataError, match="at most 64 million"):
        read_provenanced(joined([(b"IHDR", head), *chunks(PNG)[1:]]), "x.png")


@pytest.mark.parametrize("text", [b"eclipse.manifest", b"a\0\1\0\0\0b", b"a\0\0\0\0\0\xff", b"a\0\0\0\0"])
def test_a_damaged_text_is_refused(text):
    with pytest.raises(DataError, match="x.png: .*text"):
        read_provenanced(joined([*chunks(PNG)[:1], (b"iTXt", text), *chunks(PNG)[2:]]), "x.png")


def test_missing_pixels_are_refused():
    parts = [part for part in chunks(PNG) if part[0] != b"IDAT"]
    with pytest.raises(DataError, match=r"x\.png: the PNG is damaged"):
        read_provenanced(joined(parts), "x.png")


def test_texts_keep_every_sign():
    texts = {"a": "λ 星 🌟\n\0\t", "b": ""}
    assert dict(read_png(write_png(noise(), texts), "x").texts) == texts
