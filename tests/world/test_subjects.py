from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eclipse.config.data import WorldParams
from eclipse.data.crops import crop_on_white
from eclipse.data.images import decode_png
from eclipse.data.masks import decode_mask
from eclipse.data.subjects import subjects_of
from eclipse.errors import ConfigError
from eclipse.world.dataset import world_records
from eclipse.world.render import RGB, render
from eclipse.world.scene import BACKGROUNDS, COLOURS, SHAPES, TEXTURES, Scene, Thing
from eclipse.world.subjects import annotate_record, recaption

PARAMS = WorldParams(train=80, evaluation=30)


@pytest.fixture(scope="module")
def train():
    return [annotate_record(record, "train", 0) for record in world_records(PARAMS, "train")]


@pytest.fixture(scope="module")
def held_out():
    return [annotate_record(record, "test_held_out", 0) for record in world_records(PARAMS, "test_held_out")]


def _scene(record):
    return Scene.from_dict(record.meta["scene"])


def _said(text, words):
    return re.findall("|".join(rf"\b{word}" for word in words), text)


def _described(record):
    """The things and the background that the caption must still describe, as the subjects' attributes tell."""
    scene = _scene(record)
    known = [subject.attributes for subject, _ in subjects_of(record)]
    slots = {a["slot"] for a in known if a["kind"] == "thing"}
    others = [thing for i, thing in enumerate(scene.things) if str(i) not in slots]
    return others, [] if any(a["kind"] == "place" for a in known) else [scene.background]


def test_captions_say_everything_but_what_subjects_look_like(train, held_out):
    for record in train + held_out:
        others, places = _described(record)
        body = re.sub("pair of|group of|trio of", "", record.caption)
        assert sorted(_said(body, COLOURS)) == sorted(t.colour for t in others)
        assert sorted(_said(body, TEXTURES)) == sorted(t.texture for t in others)
        assert _said(body, BACKGROUNDS) == places
        assert sorted(_said(body, SHAPES)) == sorted(t.shape for t in _scene(record).things)


def test_attributes_are_those_of_the_scene_and_words_name_them(train):
    for record in train:
        scene = _scene(record)
        for subject, _ in subjects_of(record):
            known = dict(subject.attributes)
            if known.pop("kind") == "place":
                assert known == {"background": scene.background}
                assert subject.word in ("background", "backdrop")
            else:
                thing = scene.things[int(known.pop("slot"))]
                assert Thing(**known) == thing
                copies = scene.layout in ("two", "three", "four")
                assert subject.word == (thing.shape + ("es" if thing.shape == "cross" else "s") * copies)


def test_shares_of_one_two_and_three_subjects():
    plain = list(world_records(WorldParams(train=12, evaluation=1), "train"))
    pair = next(record for record in plain if len(_scene(record).things) == 2)
    alone = next(record for record in plain if len(_scene(record).things) == 1)
    numbers = Counter(
        len(subjects_of(annotate_record(replace(record, id=f"{i}"), "train", 0)))
        for record in (pair, alone)
        for i in range(200)
    )
    shares = [numbers[number] / 400 for number in (1, 2, 3)]
    assert np.allclose(shares, [0.5, 0.35, 0.15], atol=0.07)


def test_training_pictures_are_crops_of_the_same_picture(train):
    for record in train:
        image = decode_png(record.image)
        for subject, png in subjects_of(record):
            mask = decode_mask(subject.mask)
            x0, y0, x1, y1 = subject.box
            assert mask[y0:y1, x0:x1].sum() == mask.sum() > 60
            picture = decode_png(png)
            if subject.attributes["kind"] == "thing":
                assert np.array_equal(picture, crop_on_white(image, mask, size=64))
            else:
                assert np.array_equal(picture[mask > 0], image[mask > 0])
                assert (picture[mask == 0] == 255).all()


def test_masks_lie_on_the_subject_that_the_words_mean(train):
    for record in train:
        boxes = [item["box"] for item in record.meta["objects"]]
        for subject, _ in subjects_of(record):
            if subject.attributes["kind"] == "thing":
                candidates = boxes if len(_scene(record).things) == 1 else [boxes[int(subject.attributes["slot"])]]
                assert list(subject.box) in candidates


def test_a_place_shows_its_colour_and_no_trace_of_an_object(train, held_out):
    seen = 0
    for record in train + held_out:
        for subject, png in subjects_of(record):
            if subject.attributes["kind"] == "place":
                picture = decode_png(png).astype(int)
                plain = picture[(picture != 255).any(-1)]
                assert np.abs(plain - RGB[subject.attributes["background"]]).max() <= 40
                assert (np.abs(plain - RGB[subject.attributes["background"]]).max(-1) > 7).mean() < 0.01
                seen += 1
    assert seen > 10


def test_evaluation_pictures_are_other_renderings_of_the_same_thing(held_out):
    for record in held_out:
        image = decode_png(record.image)
        for subject, png in subjects_of(record):
            picture, known = decode_png(png), subject.attributes
            assert not np.array_equal(picture, crop_on_white(image, decode_mask(subject.mask), size=64))
            if known["kind"] == "thing":
                ink = picture[(picture != 255).any(-1)].astype(int)
                colour = np.abs(ink - RGB[known["colour"]]).max(-1) <= 8
                assert colour.mean() > 0.2
                thing = Thing(known["colour"], known["shape"], known["texture"])
                drawn = render(Scene("single", (thing,), "white"), np.random.default_rng(0))
                model = (crop_on_white(drawn.image, drawn.masks[0], size=64) != 255).any(-1)
                shown = (picture != 255).any(-1)
                assert (shown & model).sum() / (shown | model).sum() > 0.8
                second = (ink.max(-1) < 40) | (ink.min(-1) > 240)
                assert (second.mean() > 0.1) == (known["texture"] != "solid")


def test_same_id_and_seed_same_record_whatever_came_before():
    records = list(world_records(PARAMS, "val_seen"))[:6]
    forward = [annotate_record(record, "val_seen", 3) for record in records]
    backward = [annotate_record(record, "val_seen", 3) for record in reversed(records)][::-1]
    assert forward == backward
    assert forward != [annotate_record(record, "val_seen", 4) for record in records]
    for before, after in zip(records, forward, strict=True):
        assert (after.id, after.image) == (before.id, before.image)
        assert {**after.meta, "subjects": None} == {**before.meta, "subjects": None}


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_relation_survives_recaptioning(seed):
    things = (Thing("red", "cross", "solid"), Thing("blue", "moon", "dotted"))
    layout, first = (("left_right", "left of|on the left"), ("above_below", "above|on top of|over|at the top"))[
        seed % 2
    ]
    slots = (("0",), ("1",), ("0", "1"), ("0", "1", "place"))[seed // 2 % 4]
    text, spans = recaption(Scene(layout, things, "grey"), slots, np.random.default_rng(seed))
    assert set(spans) == set(slots)
    assert all(text[a:b] in ("cross", "moon", "background", "backdrop") for a, b in spans.values())
    words = {name: text.index(name) for name in ("cross", "moon")}
    said_first = min(words, key=words.__getitem__)
    between = text[words[said_first] : max(words.values())]
    assert (said_first == "cross") == (re.search(first, between) is not None), text


def test_there_are_several_phrasings_and_subjects_stand_early_and_late():
    scene = Scene("left_right", (Thing("red", "cross", "solid"), Thing("blue", "moon", "dotted")), "grey")
    made = [recaption(scene, ("0",), np.random.default_rng(seed)) for seed in range(200)]
    assert len({text for text, _ in made}) > 40
    places = np.array([spans["0"][0] for _, spans in made])
    assert places.min() <= 2 and places.max() > 35


def test_records_whose_subjects_nobody_knows_are_refused():
    record = next(iter(world_records(PARAMS, "val_seen")))
    noisy = replace(record, meta={**record.meta, "caption_of": "train-000003"})
    with pytest.raises(ConfigError, match=r"val_seen-000000: .* data\.world\.caption_noise=0"):
        annotate_record(noisy, "train", 0)
    with pytest.raises(ConfigError, match=r"val_seen-000000: has no scene.*annotate\.by=\[models\]"):
        annotate_record(replace(record, meta={}), "train", 0)
