from __future__ import annotations

import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from eclipse.world.captions import caption, edge_caption, noun_phrase, plain_caption
from eclipse.world.scene import BACKGROUNDS, COLOURS, SHAPES, TEXTURES, Scene, Thing, random_scene

SEEDS = st.integers(0, 2**32)
FIRST = {"left_right": "left of|on the left", "above_below": "above|on top of|over|at the top"}
PAIR = Scene("left_right", (Thing("red", "cross", "solid"), Thing("blue", "moon", "dotted")), "grey")


def _said(text, words):
    return re.findall("|".join(words), text)


@settings(deadline=None)
@given(SEEDS)
def test_every_attribute_is_named_once_and_no_other(seed):
    rng = np.random.default_rng(seed)
    scene = random_scene(rng)
    for text in (caption(scene, rng), plain_caption(scene)):
        body = re.sub("pair of|group of|trio of", "", text)
        assert sorted(_said(body, [rf"\b{w}" for w in COLOURS])) == sorted(t.colour for t in scene.things)
        assert sorted(_said(body, [rf"\b{w}" for w in SHAPES])) == sorted(t.shape for t in scene.things)
        assert sorted(_said(body, TEXTURES)) == sorted(t.texture for t in scene.things)
        assert _said(body, BACKGROUNDS) == [scene.background]


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_relation_and_binding_can_be_read_back(seed):
    """The first thing is the one that is left or above, whichever is said first."""
    scene = Scene(("left_right", "above_below")[seed % 2], PAIR.things, "grey")
    text = caption(scene, np.random.default_rng(seed))
    words = {name: text.index(name) for name in ("cross", "moon")}
    assert re.search(r"red( solid)? cross|solid red cross", text)
    assert re.search(r"blue( dotted)? moon|dotted blue moon", text)
    first_said = min(words, key=words.__getitem__)
    between = text[words[first_said] : words["moon" if first_said == "cross" else "cross"]]
    names_first = re.search(FIRST[scene.layout], between) is not None
    assert (first_said == "cross") == names_first, text


@settings(deadline=None)
@given(SEEDS)
def test_background_is_left_out_where_asked(seed):
    text = caption(PAIR, np.random.default_rng(seed), background=False)
    assert "grey" not in text
    assert "background" not in text


def test_there_are_several_phrasings_and_each_seed_has_its_own():
    texts = {caption(PAIR, np.random.default_rng(seed)) for seed in range(300)}
    assert len(texts) > 40
    assert caption(PAIR, np.random.default_rng(5)) == caption(PAIR, np.random.default_rng(5))


@settings(deadline=None)
@given(SEEDS)
def test_edge_captions_say_no_colour(seed):
    rng = np.random.default_rng(seed)
    scene = random_scene(rng)
    text = edge_caption(scene, rng)
    assert not _said(text, [rf"\b{w}" for w in COLOURS])
    assert sorted(_said(text, SHAPES)) == sorted(t.shape for t in scene.things)


def test_articles_and_plurals():
    assert noun_phrase(Thing("orange", "square", "solid")) == "an orange solid square"
    three = Scene("three", (Thing("red", "cross", "solid"),), "white")
    assert plain_caption(three) == "three red solid crosses on a white background"
    assert plain_caption(PAIR) == "a red solid cross left of a blue dotted moon on a grey background"
