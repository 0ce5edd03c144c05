from __future__ import annotations

import json
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eclipse.config.data import DataParams, WorldParams
from eclipse.data.images import decode_png
from eclipse.data.manifest import open_split
from eclipse.data.masks import decode_mask
from eclipse.data.records import EVALUATION_SPLITS, SPLITS
from eclipse.errors import DataError
from eclipse.files import tree_digest
from eclipse.world.dataset import (
    HELD_OUT,
    TEST_HELD_OUT,
    VAL_HELD_OUT,
    draw_scenes,
    split_of,
    world_records,
    write_world,
)
from eclipse.world.scene import COLOURS, SHAPES, Scene, Thing, random_scene

SMALL = DataParams(world=WorldParams(train=60, evaluation=12), shard_size=25)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world") / "dataset"
    return folder, write_world(SMALL, folder)


def test_held_out_pairs_are_spread_evenly():
    assert len(set(HELD_OUT)) == 12
    assert not set(VAL_HELD_OUT) & set(TEST_HELD_OUT)
    assert ("orange", "square") in TEST_HELD_OUT
    for position, words in ((0, COLOURS), (1, SHAPES)):
        assert set(Counter(pair[position] for pair in HELD_OUT)) == set(words)
        assert max(Counter(pair[position] for pair in HELD_OUT).values()) == 2
        for half in (VAL_HELD_OUT, TEST_HELD_OUT):
            assert max(Counter(pair[position] for pair in half).values()) == 1


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_a_scene_belongs_to_the_split_of_its_pairs(seed):
    scene = random_scene(np.random.default_rng(seed))
    val, test = scene.pairs() & set(VAL_HELD_OUT), scene.pairs() & set(TEST_HELD_OUT)
    expected = {(True, False): {"val_held_out"}, (False, True): {"test_held_out"}, (True, True): {None}}
    seen = {"train", "val_seen", "test_seen"}
    assert split_of(scene) in expected.get((bool(val), bool(test)), seen)


def test_dealing_out_is_the_same_on_every_machine():
    scenes = [Scene("single", (Thing(c, s, "solid"),), "white") for c in COLOURS for s in SHAPES]
    counts = Counter(split_of(scene) for scene in scenes)
    assert counts == {"train": 37, "val_seen": 11, "test_seen": 4, "val_held_out": 6, "test_held_out": 6}


def test_no_combination_is_in_two_splits_and_evaluation_scenes_are_distinct(written):
    folder, manifest = written
    keys = {split: [record.meta["key"] for record in open_split(folder, split)] for split in SPLITS}
    assert {split: len(found) for split, found in keys.items()} == {s: 60 if s == "train" else 12 for s in SPLITS}
    assert sum(len(set(found)) for found in keys.values()) == len(set().union(*keys.values()))
    for split in EVALUATION_SPLITS:
        assert len(set(keys[split])) == 12
    assert manifest.held_out[6] == "orange square"
    for record in open_split(folder, "train"):
        assert not Scene.from_dict(record.meta["scene"]).pairs() & set(HELD_OUT)
        assert split_of(Scene.from_dict(record.meta["scene"])) == "train"


@pytest.mark.slow
def test_every_colour_and_shape_is_seen_in_training():
    scenes = draw_scenes("train", 1500, 0)
    pairs = set().union(*(scene.pairs() for scene in scenes))
    assert pairs == {(c, s) for c in COLOURS for s in SHAPES} - set(HELD_OUT)


@pytest.mark.slow
def test_all_splits_have_the_same_mix_of_scenes():
    for split in SPLITS:
        kinds = Counter("pair" if len(s.things) == 2 else s.layout == "single" for s in draw_scenes(split, 200, 1))
        assert 80 <= kinds["pair"] <= 120
        assert 40 <= kinds[True] <= 80


def test_same_seed_same_bytes_and_other_seed_other_bytes(written, tmp_path):
    folder, manifest = written
    again = write_world(SMALL, tmp_path / "again")
    assert again == manifest
    assert tree_digest(tmp_path / "again") == tree_digest(folder)
    other = SMALL.model_copy(update={"world": WorldParams(train=60, evaluation=12, seed=1)})
    shards = write_world(other, tmp_path / "other").splits["train"].shards
    assert not {s.sha256 for s in shards} & {s.sha256 for s in manifest.splits["train"].shards}


@pytest.mark.parametrize("split", ["train", "test_held_out"])
def test_a_smaller_dataset_is_the_beginning_of_a_larger(split):
    small = list(world_records(WorldParams(train=10, evaluation=10), split))
    large = list(islice(world_records(WorldParams(train=30, evaluation=20), split), 10))
    assert small == large


def test_pictures_masks_and_boxes_fit_together(written):
    folder, _ = written
    for record in open_split(folder, "val_seen"):
        image = decode_png(record.image)
        scene = Scene.from_dict(record.meta["scene"])
        assert image.shape == (64, 64, 3)
        background = np.median(image[[0, 0, -1, -1], [0, -1, 0, -1]], axis=0)
        for item in record.meta["objects"]:
            assert Thing(item["colour"], item["shape"], item["texture"]) in scene.things
            mask = decode_mask(item["mask"])
            x0, y0, x1, y1 = item["box"]
            assert mask[y0:y1, x0:x1].sum() == mask.sum() > 60
            assert mask[y0].any()
            assert mask[:, x1 - 1].any()
            assert np.abs(image[mask > 0] - background).max(-1).mean() > 20
        assert len(json.dumps(record.meta)) < 4000


def test_captions_vary_and_name_what_is_shown(written):
    folder, _ = written
    records = list(open_split(folder, "train"))
    assert len({record.caption for record in records}) > 50
    for record in records:
        for thing in Scene.from_dict(record.meta["scene"]).things:
            assert all(word in record.caption for word in (thing.colour, thing.shape, thing.texture))
        assert record.id == sorted(r.id for r in records)[records.index(record)]


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_caption_noise_exchanges_the_share_asked_for_and_says_so(noise):
    clean = list(world_records(WorldParams(train=30, evaluation=1), "train"))
    noisy = list(world_records(WorldParams(train=30, evaluation=1, caption_noise=noise), "train"))
    by_id = {record.id: record for record in clean}
    wrong = [record for record in noisy if "caption_of" in record.meta]
    assert len(wrong) == round(noise * 30)
    for record in noisy:
        assert record.image == by_id[record.id].image
        assert record.caption == by_id[record.meta.get("caption_of", record.id)].caption
    for record in wrong:
        assert by_id[record.meta["caption_of"]].meta["key"] != record.meta["key"]
    assert sorted(record.caption for record in noisy) == sorted(record.caption for record in clean)


def test_caption_noise_leaves_evaluation_alone():
    noisy = list(world_records(WorldParams(train=5, evaluation=5, caption_noise=1.0), "val_seen"))
    assert noisy == list(world_records(WorldParams(train=5, evaluation=5), "val_seen"))


def test_asking_for_more_scenes_than_there_are_is_an_error(monkeypatch):
    monkeypatch.setattr("eclipse.world.dataset._LIMIT", 50)
    monkeypatch.setattr("eclipse.world.dataset._PATIENCE", 5)
    monkeypatch.setattr("eclipse.world.dataset.split_of", lambda scene: "val_seen" if scene.key() < "above" else "x")
    with pytest.raises(DataError, match="val_seen has no 40 distinct scenes"):
        draw_scenes("val_seen", 40, 0)
