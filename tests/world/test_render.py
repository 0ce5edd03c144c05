from __future__ import annotations

import hashlib
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eclipse.world.render import RGB, SIZE, render
from eclipse.world.scene import COLOURS, COUNTS, SHAPES, TEXTURES, Scene, Thing, random_scene

SEEDS = st.integers(0, 2**32)


def _draw(scene, seed=0):
    return render(scene, np.random.default_rng(seed))


def _single(colour="red", shape="circle", texture="solid", background="white"):
    return Scene("single", (Thing(colour, shape, texture),), background)


def _near(mask):
    """``mask`` widened by the pixels that anti-aliased edges and thin tips cover by less than half."""
    return cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_one_disjoint_mask_per_object_inside_the_picture(seed):
    scene = random_scene(np.random.default_rng(seed))
    picture = _draw(scene, seed)
    assert picture.image.shape == (SIZE, SIZE, 3)
    assert picture.image.dtype == np.uint8
    assert len(picture.masks) == len(picture.things) == COUNTS[scene.layout]
    assert set(picture.things) == set(scene.things)
    assert np.sum(picture.masks, axis=0).max() == 1
    assert all(mask.sum() > 60 for mask in picture.masks)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_outside_the_masks_there_is_background(seed):
    scene = random_scene(np.random.default_rng(seed))
    picture = _draw(scene, seed)
    plain = picture.image[~_near(np.any(picture.masks, axis=0))].astype(int)
    assert np.abs(plain - RGB[scene.background]).max() <= 7
    assert np.ptp(plain, axis=0).max() == 0


@pytest.mark.parametrize("colour", COLOURS)
def test_a_solid_thing_has_its_colour(colour):
    picture = _draw(_single(colour, "square"))
    core = picture.image[picture.masks[0] > 0].astype(int)
    assert np.abs(np.median(core, axis=0) - RGB[colour]).max() <= 7


@pytest.mark.parametrize("shape", SHAPES)
def test_textures_change_the_inside_and_not_the_outline(shape):
    pictures = [_draw(_single(shape=shape, texture=texture)) for texture in TEXTURES]
    for one, other in pairwise(pictures):
        assert np.array_equal(one.masks[0], other.masks[0])
        assert (one.image != other.image).any()
        outside = ~_near(one.masks[0] > 0)
        changed = np.abs(one.image.astype(int) - other.image).max(-1) > 60
        assert not (changed & outside).any()


def test_shapes_have_different_outlines():
    masks = [_draw(_single(shape=shape)).masks[0].astype(bool) for shape in SHAPES]
    for i, one in enumerate(masks):
        for other in masks[:i]:
            assert (one & other).sum() / (one | other).sum() < 0.93


@pytest.mark.parametrize(("layout", "axis"), [("left_right", 1), ("above_below", 0)])
def test_the_first_thing_is_left_or_above(layout, axis):
    scene = Scene(layout, (Thing("red", "star", "solid"), Thing("blue", "heart", "solid")), "white")
    for seed in range(5):
        first, second = (np.nonzero(mask)[axis] for mask in _draw(scene, seed).masks)
        assert first.max() < second.min()


def test_jitter_comes_from_the_generator_alone():
    scene = _single(texture="checkered")
    assert np.array_equal(_draw(scene, 3).image, _draw(scene, 3).image)
    assert not np.array_equal(_draw(scene, 3).image, _draw(scene, 4).image)


def test_pixels_are_those_that_the_shipped_models_were_trained_on():
    digest = hashlib.sha256()
    for seed in range(12):
        digest.update(_draw(random_scene(np.random.default_rng(seed)), seed).image.tobytes())
    assert digest.hexdigest()[:16] == "775998da4e79a4d3"
