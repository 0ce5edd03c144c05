import numpy as np
import pytest

from eclipse.errors import DataError
from eclipse.evaluate.subject_oracle import Asked, oracle_scores
from eclipse.world.oracle import HEADS
from eclipse.world.scene import Scene, Thing

RED, BLUE = Thing("red", "star", "solid"), Thing("blue", "moon", "dotted")
PAIR = Scene("left_right", (RED, BLUE), "grey")
SINGLE = Scene("single", (RED,), "black")


def thing(scene, slot):
    t = scene.things[slot]
    return {"kind": "thing", "slot": str(slot), "colour": t.colour, "shape": t.shape, "texture": t.texture}


def place(scene):
    return {"kind": "place", "background": scene.background}


def meta(scene, *attributes):
    return {"scene": scene.to_dict(), "subjects": [{"attributes": a} for a in attributes]}


def sure(*scenes, p=1.0):
    """An oracle's probabilities: ``p`` on what each scene shows, the rest spread evenly over the other words."""
    table = {head: [] for head in HEADS}
    for scene in scenes:
        shown = {"layout": scene.layout, "background": scene.background}
        for slot in (0, 1):  # of one thing, the second slot repeats the first: it must not be believed
            for name in ("colour", "shape", "texture"):
                shown[f"{name}_{slot}"] = getattr(scene.things[min(slot, len(scene.things) - 1)], name)
        for head, words in HEADS.items():
            row = np.full(len(words), (1 - p) / (len(words) - 1), np.float32)
            row[words.index(shown[head])] = p
            table[head].append(row)
    return {head: np.array(rows) for head, rows in table.items()}


def scores(asked, shown, real=None, p=1.0):
    found = oracle_scores([Asked.of("r", asked)], sure(shown, p=p), sure(real or shown))
    return {name: values[0] for name, values in found.items() if not np.isnan(values[0])}


def test_what_is_asked_is_divided_between_subjects_and_the_rest_of_the_caption():
    asked = Asked.of("r", meta(PAIR, thing(PAIR, 1), place(PAIR)))
    assert asked.subjects == (
        {"colour_1": "blue", "shape_1": "moon", "texture_1": "dotted"},
        {"background": "grey"},
    )
    assert asked.rest == {"layout": "left_right", "colour_0": "red", "shape_0": "star", "texture_0": "solid"}


def test_all_right():
    found = scores(meta(PAIR, thing(PAIR, 0), place(PAIR)), PAIR)
    assert found == {
        "subject_colour": 1, "subject_shape": 1, "subject_texture": 1, "subject_background": 1, "concept": 1, "rest": 1,
        "both": 1, "ccd_concept": 0, "ccd_composition": 0, "copy_paste": 0,
    }  # fmt: skip


def test_one_of_two_subjects_wrong_in_one_attribute():
    shown = Scene("left_right", (Thing("red", "star", "striped"), BLUE), "grey")
    found = scores(meta(PAIR, thing(PAIR, 0), thing(PAIR, 1)), shown, PAIR)
    assert (found["subject_texture"], found["subject_colour"], found["subject_shape"]) == (0.5, 1, 1)
    assert (found["concept"], found["rest"], found["both"]) == (0.5, 1, 0)
    assert "subject_background" not in found
    assert found["ccd_concept"] == pytest.approx(1 / 6)  # one of six attributes lost whole
    assert found["ccd_composition"] == 0


@pytest.mark.parametrize(
    "shown",
    [
        Scene("above_below", (RED, BLUE), "grey"),
        Scene("left_right", (RED, BLUE), "white"),
        Scene("left_right", (RED, Thing("blue", "moon", "solid")), "grey"),
    ],
    ids=["layout", "background", "other thing"],
)
def test_the_rest_is_all_or_nothing_and_leaves_the_concept(shown):
    found = scores(meta(PAIR, thing(PAIR, 0)), shown, PAIR)
    assert (found["concept"], found["rest"], found["both"]) == (1, 0, 0)
    assert found["ccd_concept"] == 0 and found["ccd_composition"] == pytest.approx(1 / 5)


def test_what_is_a_subject_is_not_asked_of_the_rest():
    shown = Scene("left_right", (RED, Thing("green", "cross", "solid")), "white")
    found = scores(meta(PAIR, thing(PAIR, 1), place(PAIR)), shown)
    assert (found["concept"], found["rest"], found["both"]) == (0, 1, 0)


def test_things_that_changed_places_are_wrong():
    found = scores(meta(PAIR, thing(PAIR, 0)), Scene("left_right", (BLUE, RED), "grey"))
    assert (found["concept"], found["rest"]) == (0, 0)


def test_a_single_thing_has_no_second_one_whatever_the_oracle_says_of_it():
    alone = Scene("single", (BLUE,), "grey")
    found = scores(meta(PAIR, thing(PAIR, 1)), alone)
    assert (found["concept"], found["subject_colour"], found["rest"]) == (0, 0, 0)


def test_copy_paste_is_a_subject_alone_where_more_was_asked_for():
    two = meta(PAIR, thing(PAIR, 1))
    assert scores(two, Scene("single", (Thing("blue", "moon", "solid"),), "black"))["copy_paste"] == 1
    assert scores(two, Scene("single", (RED,), "grey"))["copy_paste"] == 0  # alone, but the other thing
    assert scores(two, Scene("two", (BLUE,), "grey"))["copy_paste"] == 0
    copies = Scene("three", (BLUE,), "grey")
    assert scores(meta(copies, thing(copies, 0)), Scene("single", (BLUE,), "grey"))["copy_paste"] == 1
    assert "copy_paste" not in scores(meta(SINGLE, thing(SINGLE, 0)), SINGLE)
    assert "copy_paste" not in scores(meta(PAIR, place(PAIR)), SINGLE)


def test_deviation_is_lost_confidence_and_can_be_negative():
    asked = [Asked.of("r", meta(SINGLE, thing(SINGLE, 0)))]
    less, more = (oracle_scores(asked, sure(SINGLE, p=a), sure(SINGLE, p=b)) for a, b in ((0.7, 0.9), (0.9, 0.7)))
    assert less["ccd_concept"][0] == pytest.approx(0.2) and more["ccd_concept"][0] == pytest.approx(-0.2)
    assert less["ccd_composition"][0] == pytest.approx(0.2)
    assert less["both"][0] == 1  # the words are still read right


def test_prompts_keep_their_rows_and_unknown_worlds_have_none():
    known, unknown = meta(SINGLE, thing(SINGLE, 0)), {"subjects": [{"attributes": {}}], "scene": SINGLE.to_dict()}
    asked = [Asked.of("a", unknown), Asked.of("b", known), Asked.of("c", {"subjects": [{}]})]
    assert asked[0] is None and asked[2] is None
    table = oracle_scores(asked, sure(PAIR, SINGLE, SINGLE), sure(PAIR, SINGLE, SINGLE))
    assert np.isnan(table["concept"][[0, 2]]).all() and table["both"][1] == 1
    assert oracle_scores([None, None], sure(PAIR, PAIR), sure(PAIR, PAIR)) == {}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (meta(PAIR, {**thing(PAIR, 0), "colour": "blue"}), r"record r: meta.subjects\[0\].attributes: colour_0"),
        (meta(PAIR, place(PAIR), {**thing(PAIR, 1), "slot": "2"}), r"subjects\[1\].attributes: colour_2"),
        (meta(PAIR, {"kind": "thing"}), "record r: meta.scene or meta.subjects: KeyError"),
        ({**meta(PAIR, place(PAIR)), "scene": {"layout": "single"}}, "record r: meta.scene"),
        (meta(Scene("single", (Thing("red", "star", "tartan"),), "grey"), place(PAIR)), "'tartan' is no word"),
    ],
)
def test_contradictions_name_the_record_and_the_field(broken, message):
    with pytest.raises(DataError, match=message):
        Asked.of("r", broken)
