import numpy as np
import pytest
import torch

from eclipse.errors import DataError
from eclipse.evaluate.judge import CATEGORIES, Judge
from eclipse.world.oracle import HEADS, Reading
from eclipse.world.scene import Scene, Thing

RED, BLUE = Thing("red", "star", "solid"), Thing("blue", "moon", "dotted")
PAIR, SINGLE, THREE = (
    Scene("left_right", (RED, BLUE), "white"),
    Scene("single", (RED,), "black"),
    Scene("three", (BLUE,), "grey"),
)


class SeesOnlyScenes:
    """An oracle that answers with the scenes it was told, whatever the pictures."""

    def __init__(self, *scenes):
        self.scenes = scenes

    def read(self, images):
        words = {head: [] for head in HEADS}
        for scene in self.scenes:
            words["layout"].append(scene.layout)
            words["background"].append(scene.background)
            for slot in (0, 1):
                thing = scene.things[slot] if slot < len(scene.things) else RED
                for name in ("colour", "shape", "texture"):
                    words[f"{name}_{slot}"].append(getattr(thing, name))
        return Reading({head: np.array(column) for head, column in words.items()})

    def features(self, images):
        return np.ones((len(images), 3), np.float32)


class MeanColourClip:
    def encode_image(self, images):
        return torch.as_tensor(images).float().mean((1, 2))


def categories(asked, shown):
    meta = [{"scene": scene.to_dict()} for scene in asked]
    return Judge(MeanColourClip(), SeesOnlyScenes(*shown)).categories(np.zeros((len(asked), 64, 64, 3), np.uint8), meta)


def test_what_is_shown_as_asked_is_right_in_all_that_the_caption_names():
    scores = categories([PAIR, SINGLE, THREE], [PAIR, SINGLE, THREE])
    assert set(scores) == set(CATEGORIES)
    for name in ("colour", "shape", "texture", "background", "composition"):
        assert scores[name].tolist() == [1, 1, 1]
    assert scores["spatial"][0] == 1 and np.isnan(scores["spatial"][1:]).all()
    assert np.isnan(scores["count"][0]) and scores["count"][1:].tolist() == [1, 1]


def test_swapped_things_are_wrong_in_space_and_composition():
    scores = categories([PAIR], [Scene("left_right", (BLUE, RED), "white")])
    assert scores["spatial"][0] == 0 and scores["composition"][0] == 0 and scores["background"][0] == 1


def test_one_wrong_colour_of_two_costs_half_the_colour_and_the_composition():
    shown = Scene("left_right", (Thing("green", "star", "solid"), BLUE), "white")
    scores = categories([PAIR], [shown])
    assert scores["colour"][0] == 0.5 and scores["shape"][0] == 1 and scores["composition"][0] == 0


def test_a_wrong_number_or_background_costs_the_composition():
    scores = categories([THREE, SINGLE], [Scene("four", (BLUE,), "grey"), Scene("single", (RED,), "white")])
    assert scores["count"].tolist() == [0, 1] and scores["background"].tolist() == [1, 0]
    assert scores["composition"].tolist() == [0, 0]


def test_without_oracle_or_scenes_there_are_no_categories():
    images = np.zeros((2, 8, 8, 3), np.uint8)
    assert Judge(MeanColourClip(), None).categories(images, [{"scene": PAIR.to_dict()}] * 2) == {}
    assert Judge(MeanColourClip(), SeesOnlyScenes(PAIR, PAIR)).categories(images, [{"group": "g"}] * 2) == {}
    mixed = Judge(MeanColourClip(), SeesOnlyScenes(PAIR, PAIR)).categories(
        images, [{"group": "g"}, {"scene": PAIR.to_dict()}]
    )
    assert np.isnan(mixed["colour"][0]) and mixed["colour"][1] == 1


def test_a_malformed_scene_names_the_record():
    with pytest.raises(DataError, match="record 0.*scene"):
        Judge(MeanColourClip(), SeesOnlyScenes(PAIR)).categories(
            np.zeros((1, 8, 8, 3), np.uint8), [{"scene": {"layout": "single"}}]
        )


def test_clip_score_is_the_cosine_of_the_decoded_pictures_embedding():
    images = np.zeros((2, 8, 8, 3), np.uint8)
    images[0, ..., 0], images[1, ..., 1] = 200, 100
    scores = Judge(MeanColourClip(), None).clip_score(images, np.array([[1, 0, 0], [1, 0, 0]], np.float32))
    assert scores == pytest.approx([1, 0], abs=1e-6)


def test_frechet_features_are_the_oracles_where_there_is_one_else_clips():
    images = np.full((200, 4, 4, 3), 7, np.uint8)
    assert (Judge(MeanColourClip(), SeesOnlyScenes()).features(images) == 1).all()
    assert (Judge(MeanColourClip(), None).features(images) == 7).all()
    assert Judge(MeanColourClip(), None).features(images).shape == (200, 3)
