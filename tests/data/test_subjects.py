from __future__ import annotations

import json

import pytest

from eclipse.data.records import Record
from eclipse.data.shards import ShardWriter, read_shard
from eclipse.data.subjects import Subject, subjects_of, with_subjects
from eclipse.errors import DataError

CAPTION = "a dog beside a dog in a tiny hat"
MASK = {"size": [4, 6], "counts": [3, 2, 19]}
FIRST = Subject("dog", (2, 5), (0, 1, 6, 4), MASK, {"breed": "pug"})
SECOND = Subject("dog", (15, 18), (2, 0, 3, 1), MASK)
HAT = Subject("tiny hat", (24, 32), (5, 3, 6, 4), MASK)
PLAIN = Record("0007", "whatever it was", b"picture", {"key": "k"})


def _annotated():
    return with_subjects(PLAIN, CAPTION, [(HAT, b"h"), (FIRST, b"1"), (SECOND, b"2")])


def _changed(index, **changes):
    record = _annotated()
    subjects = json.loads(json.dumps(record.meta["subjects"]))
    subjects[index].update(changes)
    return Record(record.id, record.caption, record.image, {**record.meta, "subjects": subjects}, record.extras)


def test_two_subjects_with_the_same_word_keep_their_own_pictures_and_caption_order():
    record = _annotated()
    assert (record.caption, record.image, record.meta["key"]) == (CAPTION, b"picture", "k")
    assert subjects_of(record) == [(FIRST, b"1"), (SECOND, b"2"), (HAT, b"h")]
    assert list(record.extras) == ["subject0.png", "subject1.png", "subject2.png"]


def test_subjects_survive_a_shard(tmp_path):
    with ShardWriter(tmp_path, "train", 5) as writer:
        writer.add(_annotated())
    (record,) = read_shard(tmp_path / writer.shards[0].file)
    assert subjects_of(record) == subjects_of(_annotated())


def test_a_record_that_nobody_annotated_has_none():
    assert subjects_of(PLAIN) == []


def test_annotating_again_replaces_what_was_there():
    again = with_subjects(_annotated(), "a hat", [(Subject("hat", (2, 5), HAT.box, MASK), b"new")])
    assert [png for _, png in subjects_of(again)] == [b"new"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"span": [2, 6]}, r"subjects\[0\]\.span: 2–6 of 'a dog .*' does not hold 'dog'"),
        ({"span": [-30, -27]}, r"subjects\[0\]\.span: .* does not hold"),
        ({"span": [5, 5]}, r"subjects\[0\]\.span: .* does not hold"),
        ({"span": [2]}, r"subjects\[0\]\.span: is \[2\], not 2 whole numbers"),
        ({"span": [2.0, 5]}, r"subjects\[0\]\.span: .* not 2 whole numbers"),
        ({"word": "cat"}, r"subjects\[0\]\.span: .* does not hold 'cat'"),
        ({"word": ""}, r"subjects\[0\]\.word: is '', not a noun"),
        ({"box": [0, 1, 7, 4]}, r"subjects\[0\]\.box: .* is not inside 6 × 4 pixels"),
        ({"box": [3, 1, 3, 4]}, r"subjects\[0\]\.box: .* is not inside"),
        ({"box": "all"}, r"subjects\[0\]\.box: is 'all', not 4 whole numbers"),
        ({"mask": None}, r"subjects\[0\]\.mask: is no run-length mask"),
        ({"mask": {"size": [4], "counts": [24]}}, r"subjects\[0\]\.mask\.size"),
        ({"attributes": ["pug"]}, r"subjects\[0\]\.attributes"),
    ],
)
def test_errors_name_record_and_field(changes, message):
    with pytest.raises(DataError, match=rf"record 0007: meta\.{message}"):
        subjects_of(_changed(0, **changes))


def test_missing_and_left_over_pictures_are_named():
    record = _annotated()
    fewer = Record(record.id, CAPTION, record.image, record.meta, {"subject0.png": b"1", "subject2.png": b"h"})
    with pytest.raises(DataError, match=r"record 0007: subject1\.png: the picture of 'dog' is missing"):
        subjects_of(fewer)
    with pytest.raises(DataError, match=r"record 0007: subject0\.png: a picture without a subject"):
        subjects_of(Record("0007", CAPTION, b"x", {}, {"subject0.png": b"1"}))


def test_overlapping_spans_are_refused_and_touching_ones_are_not():
    hat = Subject("hat", (29, 32), HAT.box, MASK)
    with pytest.raises(DataError, match=r"record 0007: meta\.subjects: 'tiny hat' and 'hat' overlap"):
        with_subjects(PLAIN, CAPTION, [(hat, b"x"), (HAT, b"y")])
    touching = [(Subject("tiny ", (24, 29), HAT.box, MASK), b"x"), (hat, b"y")]
    assert len(subjects_of(with_subjects(PLAIN, CAPTION, touching))) == 2


@pytest.mark.parametrize("found", ["dog", {"0": {}}, ["dog"]])
def test_anything_else_in_the_place_of_subjects_is_refused(found):
    with pytest.raises(DataError, match=r"record 0007: meta\.subjects"):
        subjects_of(Record("0007", CAPTION, b"x", {"subjects": found}))
