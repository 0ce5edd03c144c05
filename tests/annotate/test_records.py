from __future__ import annotations

import numpy as np
import pytest
from annotate.scripted import SIDE, Script, png, proposals
from hypothesis import given, settings
from hypothesis import strategies as st

from eclipse.annotate.funnel import BOX_RULES, IMAGE_RULES, Funnel
from eclipse.annotate.records import annotate_records, boxes_of
from eclipse.config.subjects import FilterParams
from eclipse.data.crops import crop_on_white
from eclipse.data.images import decode_png
from eclipse.data.masks import decode_mask
from eclipse.data.records import Record
from eclipse.data.subjects import subjects_of
from eclipse.errors import DataError

PAPER = FilterParams()
LEFT, RIGHT, LOW = (2.0, 2.0, 9.0, 9.0), (11.0, 2.0, 18.0, 9.0), (2.0, 11.0, 9.0, 18.0)


def annotate(script, captions, *, pictures=None, params=PAPER, batch_size=3, made=False):
    funnel = Funnel()
    records = [
        Record(f"{i:04d}", caption, png(i) if pictures is None else pictures[i], {"source": "x"})
        for i, caption in enumerate(captions)
    ]
    kept = annotate_records(records, script.models(captions=made), params, funnel, batch_size=batch_size, where="a.tar")
    return kept, funnel.as_dict()


def removed(counts):
    return {rule: count for rule, count in counts["dropped"].items() if count}


def test_a_record_gets_its_subjects():
    script = Script({0: [("dog", 0.8, (2.2, 2.9, 8.1, 8.7)), ("hat", 0.5, RIGHT), ("hat", 0.4, LOW)]})
    [record], counts = annotate(script, ["A Dog wearing a hat."])
    (dog, dog_png), (hat, _) = subjects_of(record)
    assert (dog.word, dog.span, dog.box) == ("Dog", (2, 5), (2, 2, 9, 9))  # rounded outwards
    assert (hat.word, hat.span, hat.box) == ("hat", (16, 19), (11, 2, 18, 9))
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[2:6, 2:9] = 1
    assert np.array_equal(decode_mask(dog.mask), mask)
    assert np.array_equal(decode_png(dog_png), crop_on_white(decode_png(record.image), mask, size=SIDE))
    assert record.image == png(0) and record.meta["source"] == "x" and record.caption == "A Dog wearing a hat."
    assert counts["images"]["kept"] == 1 and counts["subjects"] == {"2": 1}
    assert counts["boxes"] == {"in": 3, "kept": 2, "dropped": dict.fromkeys(BOX_RULES, 0) | {"unmatched": 1}}


@pytest.mark.parametrize(
    ("rule", "caption", "found", "boxes"),
    [
        ("nouns", "it is late", [("dog", 0.9, LEFT)], {}),
        ("boxes", "a dog", [("dog", 0.1, LEFT)], {"box_threshold": 1}),
        ("boxes", "a dog", [("wolf", 0.9, LEFT)], {"text_threshold": 1}),
        ("boxes", "a dog and a cat", [("dog", 0.5, LEFT)] * 5 + [("cat", 0.5, RIGHT)] * 4, {"boxes": 9}),
        ("identical", "dogs", [("dogs", 0.5, LEFT)] * 7 + [("dogs", 0.1, LEFT)], {"identical": 7, "box_threshold": 1}),
        ("subjects", "a dog", [("dog", 0.25, LEFT)], {"logit": 1}),
        ("subjects", "a dog", [("dog", 0.9, (2, 2, 19, 9))], {"ratio": 1}),
        ("subjects", "a dog", [("dog", 0.9, (1, 2, 9, 9))], {"mask_share": 1}),
    ],
)
def test_each_rule_counts_what_it_removes(rule, caption, found, boxes):
    kept, counts = annotate(Script({0: found}), [caption])
    assert kept == []
    assert removed(counts["images"]) == {rule: 1}
    assert removed(counts["boxes"]) == boxes


def test_more_subjects_than_allowed_drop_the_picture_with_its_boxes():
    found = [("dog", 0.9, LEFT), ("cat", 0.8, RIGHT)]
    kept, counts = annotate(Script({0: found}), ["a dog and a cat"], params=FilterParams(subjects=(1, 1)))
    assert kept == [] and removed(counts["images"]) == {"subjects": 1} and removed(counts["boxes"]) == {"subjects": 2}


def test_pictures_without_subjects_stay_where_they_are_allowed():
    params = FilterParams(subjects=(0, 4), boxes=(0, 8))
    [record], counts = annotate(Script(), ["a dog"], params=params)
    assert subjects_of(record) == [] and counts["subjects"] == {"0": 1} and counts["images"]["kept"] == 1


def test_white_pictures_and_empty_captions_do_not_reach_the_detector():
    script = Script(default=[("dog", 0.9, LEFT)])
    kept, counts = annotate(script, ["was"] * 4, pictures=[png(0), png(1), png(2, 2), png(3, 3)], made=True)
    assert [record.id for record in kept] == ["0000", "0002"]
    assert [record.caption for record in kept] == ["a dog number 0", "a dog number 2"]
    assert removed(counts["images"]) == {"white": 1, "caption": 1}
    assert script.seen == [0, 2]


def test_a_box_with_a_bad_mask_leaves_its_noun_to_the_next():
    script = Script({0: [("dog", 0.9, (1, 2, 9, 9)), ("dog", 0.5, RIGHT)]})
    [record], _ = annotate(script, ["a dog"])
    assert subjects_of(record)[0][0].box == (11, 2, 18, 9)


def test_two_occurrences_are_two_things():
    script = Script({0: [("dog", 0.5, LEFT), ("dog", 0.9, RIGHT)]})
    [record], _ = annotate(script, ["a dog beside a dog"])
    assert [(subject.span, subject.box[0]) for subject, _ in subjects_of(record)] == [((2, 5), 11), ((15, 18), 2)]


def test_boxes_are_cut_at_the_edge():
    proposed = proposals([("dog", 0.9, (-3.0, 4.5, 5.0, 90.0)), ("dog", 0.9, (30.0, 30.0, 40.0, 40.0))], ["dog"])
    found = boxes_of(proposed, ["dog"], (20, 10), PAPER, Funnel())
    assert [box.corners for box in found] == [
        (0, 4, 5, 20),
        (10, 20, 10, 20),
    ]  # the second has no area: ratio removes it


def test_a_box_belongs_to_the_phrase_that_suits_it_best():
    proposed = proposals([("dog", 0.9, LEFT)], ["cat", "dog"])
    assert [box.phrase for box in boxes_of(proposed, ["cat", "dog"], (20, 20), PAPER, Funnel())] == ["dog"]


def test_a_damaged_picture_is_named():
    with pytest.raises(DataError, match=r"a\.tar: 0001\.png"):
        annotate(Script(default=[("dog", 0.9, LEFT)]), ["a dog"] * 2, pictures=[png(0), png(1)[:60]])


boxes = st.tuples(st.integers(0, 10), st.integers(0, 10), st.integers(11, 22), st.integers(11, 22))
found = st.lists(st.tuples(st.sampled_from(["dog", "cat", "hat"]), st.floats(0, 1), boxes), max_size=10)


@settings(max_examples=60)
@given(st.lists(found, max_size=5), st.integers(1, 4), st.booleans())
def test_what_comes_in_is_what_was_dropped_and_kept(answers, batch_size, made):
    script = Script(dict(enumerate(answers)))
    captions = ["a dog, a cat and another dog", "a hat", "nothing", "Cat", "dog dog dog"][: len(answers)]
    kept, counts = annotate(script, captions, batch_size=batch_size, made=made)
    for stream, rules in (("images", IMAGE_RULES), ("boxes", BOX_RULES)):
        one = counts[stream]
        assert one["in"] == one["kept"] + sum(one["dropped"].values())
        assert set(one["dropped"]) == set(rules)
    assert counts["images"]["in"] == len(answers) and counts["images"]["kept"] == len(kept)
    assert counts["boxes"]["kept"] == sum(len(subjects_of(record)) for record in kept)
    assert sum(counts["subjects"].values()) == len(kept)
    assert kept == annotate(script, captions, batch_size=1, made=made)[0]
