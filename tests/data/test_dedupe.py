from __future__ import annotations

import io

import imagehash
import numpy as np
import pytest
from data.captioned import png
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from eclipse.data.dedupe import fingerprint, group_same
from eclipse.data.images import decode_png


def _face(tone: str, size: int = 64) -> np.ndarray:
    image = Image.new("RGB", (size, size), "white")
    ImageDraw.Draw(image).ellipse((24, 24, 36, 36), fill=tone)
    ImageDraw.Draw(image).rectangle((10, 40, 54, 60), fill="navy")
    return np.asarray(image)


def test_variants_in_one_small_colour_are_different_pictures():
    # two tones of nearly equal luminance, as skin tones can be: the perceptual hash alone takes them for one
    faces = [_face("#e0bb95"), _face("#c6c6a4")]
    assert imagehash.phash(Image.fromarray(faces[0])) == imagehash.phash(Image.fromarray(faces[1]))
    assert group_same([fingerprint(face) for face in faces], distance=0) == [0, 1]


def test_recompressed_and_rescaled_copies_are_the_same_picture():
    original = Image.fromarray(decode_png(png(3, (256, 256))))
    buffer = io.BytesIO()
    original.save(buffer, "JPEG", quality=70)
    copies = [original, Image.open(buffer).convert("RGB"), original.resize((170, 170), Image.Resampling.BICUBIC)]
    prints = [fingerprint(np.asarray(copy.resize((64, 64), Image.Resampling.LANCZOS))) for copy in copies]
    assert group_same(prints, distance=4) == [0, 0, 0]


def test_distance_bounds_the_structure():
    prints = [fingerprint(decode_png(png(seed, (64, 64)))) for seed in range(6)]
    assert group_same(prints, distance=16) == list(range(6))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=12), st.integers(0, 8))
def test_every_copy_points_to_the_first(seeds, distance):
    prints = {seed: fingerprint(decode_png(png(seed, (32, 32)))) for seed in set(seeds)}
    groups = group_same([prints[seed] for seed in seeds], distance)
    assert groups == [seeds.index(seed) for seed in seeds]


def test_nothing_to_group():
    assert group_same([], 0) == []


@pytest.mark.parametrize("bits", [0, 1, 63])
def test_hash_uses_all_bits(bits):
    a = fingerprint(_face("red"))
    b = type(a)(a.structure ^ (1 << bits), a.colours)
    assert group_same([a, b], 0) == [0, 1]
    assert group_same([a, b], 1) == [0, 0]
