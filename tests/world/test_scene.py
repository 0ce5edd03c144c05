from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eclipse.world.scene import (
    BACKGROUNDS,
    COLOURS,
    COUNTS,
    PAIRS,
    SHAPES,
    TEXTURES,
    Mix,
    Scene,
    random_scene,
    swapped,
    twin,
)

SEEDS = st.integers(0, 2**32)


def _scene(seed, mix=Mix()):
    return random_scene(np.random.default_rng(seed), mix)


@settings(deadline=None)
@given(SEEDS)
def test_scenes_are_well_formed(seed):
    scene = _scene(seed)
    assert scene.background in BACKGROUNDS
    assert len(scene.things) == (2 if scene.layout in PAIRS else 1)
    assert all(t.colour in COLOURS and t.shape in SHAPES and t.texture in TEXTURES for t in scene.things)
    if len(scene.things) == 2:
        a, b = scene.things
        assert a.colour != b.colour
        assert a.shape != b.shape


@settings(deadline=None)
@given(SEEDS)
def test_scene_survives_its_dictionary(seed):
    scene = _scene(seed)
    assert Scene.from_dict(scene.to_dict()) == scene


@settings(deadline=None)
@given(st.lists(SEEDS, max_size=40))
def test_key_tells_scenes_apart_exactly(seeds):
    scenes = {_scene(seed) for seed in seeds}
    assert len({scene.key() for scene in scenes}) == len(scenes)


@settings(deadline=None)
@given(SEEDS)
def test_a_twin_differs(seed):
    scene = _scene(seed)
    other = twin(scene, np.random.default_rng(seed + 1))
    assert other != scene
    assert len(other.things) == len(scene.things)
    assert other.layout in COUNTS


@settings(deadline=None)
@given(SEEDS, st.sampled_from(["colour", "shape", "texture", "place"]))
def test_swapping_twice_gives_the_scene_back(seed, what):
    scene = _scene(seed, Mix(0, 1, 0))
    once = swapped(scene, what)
    assert swapped(once, what) == scene
    assert {t.colour for t in once.things} == {t.colour for t in scene.things}
    assert {t.shape for t in once.things} == {t.shape for t in scene.things}


def test_only_known_attributes_can_be_swapped():
    with pytest.raises(ValueError, match="cannot swap 'size'"):
        swapped(_scene(0, Mix(0, 1, 0)), "size")


def test_mix_decides_the_layouts():
    assert {_scene(seed, Mix(1, 0, 0)).layout for seed in range(50)} == {"single"}
    assert {_scene(seed, Mix(0, 1, 0)).layout for seed in range(50)} == {"left_right", "above_below"}
    assert {_scene(seed, Mix(0, 0, 1)).layout for seed in range(50)} == {"two", "three", "four"}
