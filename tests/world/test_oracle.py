import json

import numpy as np
import pytest
import torch

from eclipse.errors import CheckpointError
from eclipse.world.oracle import HEADS, Oracle, OracleNet, judge, labels, save_oracle
from eclipse.world.scene import Scene, Thing, swapped

PAIR = Scene("left_right", (Thing("red", "star", "striped"), Thing("blue", "heart", "solid")), "white")
SINGLE = Scene("single", (Thing("orange", "square", "dotted"),), "black")
TRIO = Scene("three", (Thing("green", "moon", "solid"),), "grey")


def reading(scene: Scene) -> dict[str, str]:
    """What a perfect oracle sees in a picture of ``scene``."""
    seen = {"layout": scene.layout, "background": scene.background}
    for slot in (0, 1):
        thing = scene.things[min(slot, len(scene.things) - 1)]
        seen |= {f"{name}_{slot}": getattr(thing, name) for name in ("colour", "shape", "texture")}
    return seen


@pytest.mark.parametrize("scene", [PAIR, SINGLE, TRIO])
def test_a_right_picture_scores_one_everywhere(scene):
    assert set(judge(scene, reading(scene)).values()) == {1.0}


def test_categories_apply_where_they_mean_something():
    assert "spatial" in judge(PAIR, reading(PAIR)) and "count" not in judge(PAIR, reading(PAIR))
    assert "count" in judge(TRIO, reading(TRIO)) and "spatial" not in judge(TRIO, reading(TRIO))


def test_exchanged_things_fail_spatial_and_all_attributes():
    scores = judge(PAIR, reading(swapped(PAIR, "place")))
    assert scores["spatial"] == scores["colour"] == scores["composition"] == 0.0
    assert scores["background"] == 1.0


def test_one_wrong_attribute_costs_half_its_category_and_the_composition():
    scores = judge(PAIR, {**reading(PAIR), "colour_1": "pink"})
    assert scores["colour"] == 0.5 and scores["shape"] == scores["texture"] == scores["spatial"] == 1.0
    assert scores["composition"] == 0.0


def test_wrong_number_fails_count_only():
    scores = judge(TRIO, {**reading(TRIO), "layout": "four"})
    assert scores["count"] == 0.0 and scores["colour"] == 1.0 and scores["composition"] == 0.0


def test_labels_leave_the_second_slot_of_single_scenes_out():
    target = labels([SINGLE, PAIR])
    assert target["colour_1"][0] == -100
    assert HEADS["shape_1"][target["shape_1"][1]] == "heart"


def test_saved_oracle_reads_the_same(tmp_path):
    torch.manual_seed(0)
    net = OracleNet(width=8).eval()
    save_oracle(net, tmp_path / "oracle")
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    loaded, direct = Oracle.load(tmp_path / "oracle"), Oracle(net)
    assert np.allclose(loaded.features(images), direct.features(images), atol=2e-2)
    assert len(loaded.read(images)) == 5
    for rows in loaded.probabilities(images).values():
        assert np.allclose(rows.sum(1), 1, atol=1e-5)


def test_a_damaged_oracle_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"width": 8}))
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        Oracle.load(tmp_path)
