"""Novel textures: drawn on the thing alone, in their own colours, and unlike every texture that there is."""

from __future__ import annotations

import numpy as np
import pytest

from eclipse.world.novel import NOVELTIES, SEEN, UNSEEN, draw_novelty, other_scenes, own_scenes
from eclipse.world.render import render
from eclipse.world.scene import TEXTURES, Scene, Thing


def ordinary(novelty, texture):
    return Scene("single", (Thing(novelty.thing.colour, novelty.thing.shape, texture),), "white")


@pytest.mark.parametrize("novelty", NOVELTIES, ids=lambda n: n.name)
def test_only_the_thing_is_painted_with_each_paint(novelty):
    drawn = draw_novelty(novelty, ordinary(novelty, "solid"), np.random.default_rng(1))
    plain = render(ordinary(novelty, "solid"), np.random.default_rng(1))
    differs = (drawn.image != plain.image).any(2)
    inside = drawn.masks[0] > 0
    assert not differs[~inside].any()
    assert 0.15 < differs[inside].mean() < 0.85
    for paint in novelty.paints:
        assert (np.abs(drawn.image.astype(int) - paint).max(2) <= 2).sum() > 10


@pytest.mark.parametrize("novelty", NOVELTIES, ids=lambda n: n.name)
def test_no_ordinary_texture_looks_like_it(novelty):
    drawn = draw_novelty(novelty, ordinary(novelty, "solid"), np.random.default_rng(1))
    for texture in TEXTURES:
        image = render(ordinary(novelty, texture), np.random.default_rng(1)).image
        assert np.abs(drawn.image.astype(int) - image)[drawn.masks[0] > 0].mean() > 20


@pytest.mark.parametrize("novelty", NOVELTIES, ids=lambda n: n.name)
def test_held_out_scenes_share_no_background_with_the_own_ones(novelty):
    own, other = own_scenes(novelty, 5), other_scenes(novelty, 8, np.random.default_rng(0))
    assert {scene.background for scene in own} <= set(SEEN)
    assert {scene.background for scene in other} == set(UNSEEN)
    assert sorted(len(scene.things) for scene in other) == [1] * 4 + [2] * 4
    for scene in other[1::2]:
        assert scene.things[0] == novelty.thing
        assert scene.things[1].shape != novelty.thing.shape and scene.things[1].colour != novelty.thing.colour
