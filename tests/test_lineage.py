import hashlib

import pytest
import yaml

import made_sweep
from eclipse.errors import DataError
from eclipse.lineage import REFERENCE_NAMES, SweepFiles, flatten, point_tags, sweep_key

POINTS = ("truth", "subject", "mean", "eclipse-0.2", "lambda-0.2")
NAMES = ["eclipse-0.2-0", "lambda-0.2-0", "mean-0", "subject-0", "truth-0"]
STAGES = {
    "train@eclipse-0.2-0": {"cmd": "main train"},
    "evaluate@eclipse-0.2-0": {"cmd": "main evaluate"},
    "train-subjects@eclipse-0.2-0": {"cmd": "train"},
    "train-subjects@lambda-0.2-0": {"cmd": "train with subjects"},
    "evaluate-subjects@lambda-0.2-0": {"cmd": "evaluate with subjects"},
}


@pytest.fixture
def half(tmp_path):
    """Makes the λ-ECLIPSE half of a sweep; fields can be given another value."""
    paths = made_sweep.make_subject_sweep(tmp_path, prompts=1, kept=0, points=POINTS)
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"stages": STAGES}))

    def files(**changes):
        metrics = paths["subject_evaluations"].parent
        given = {
            "evaluations": metrics / "evaluate", "training": metrics / "train", "priors": paths["subjects"] / "priors",
            "report": tmp_path / "report", "selected": paths["subjects"] / "selected",
            "facts": (metrics / "dataset.json",), "lock": tmp_path / "dvc.lock", "kind": "subjects",
        }  # fmt: skip
        return SweepFiles(**{**given, **changes})

    return files


def locked(stage):
    return hashlib.sha256(yaml.safe_dump(STAGES[stage]).encode()).hexdigest()


def test_names_are_the_wanted_ones_and_the_references(half):
    files = half()
    for name in ("lambda-0.9-0", "lambda-0.2-1"):
        (files.evaluations / f"{name}.json").write_text("{ of another sweep")
    assert half(wanted=("lambda-0.2-0", "eclipse-0.2-0")).names() == NAMES
    assert half(wanted=("lambda-0.2-0",)).names() == [name for name in NAMES if name != "eclipse-0.2-0"]
    assert half().names() == sorted([*NAMES, "lambda-0.9-0", "lambda-0.2-1"])
    assert set(REFERENCE_NAMES) & set(NAMES) == {"truth-0", "subject-0", "mean-0"}


def test_locks_are_those_of_the_halfs_own_stages(half):
    tags = point_tags(half(), "lambda-0.2-0")
    assert tags["eclipse.lock.train"] == locked("train-subjects@lambda-0.2-0")
    assert tags["eclipse.lock.evaluate"] == locked("evaluate-subjects@lambda-0.2-0")
    assert tags["eclipse.point"] == "lambda-0.2" and tags["eclipse.lam"] == "0.2"
    shared = point_tags(half(), "eclipse-0.2-0")
    assert shared["eclipse.lock.train"] == locked("train-subjects@eclipse-0.2-0")
    assert "eclipse.lock.evaluate" not in shared
    assert point_tags(half(kind=""), "eclipse-0.2-0")["eclipse.lock.train"] == locked("train@eclipse-0.2-0")


def test_a_reference_says_that_it_is_one(half):
    assert point_tags(half(), "mean-0") == {"eclipse.role": "reference"}


def test_the_key_is_over_both_halves_and_only_over_what_is_wanted(half, tmp_path):
    made_sweep.make_sweep(tmp_path, prompts=2, kept=0, seeds=(0,), points=("truth", "projection"))
    main = SweepFiles(
        tmp_path / "metrics/evaluate", tmp_path / "metrics/train", tmp_path / "priors", tmp_path / "report",
        tmp_path / "selected",
    )  # fmt: skip
    subjects = half(wanted=("lambda-0.2-0", "eclipse-0.2-0"))
    key = sweep_key([main, subjects])
    assert len({key, sweep_key([main]), sweep_key([subjects])}) == 3
    (subjects.evaluations / "lambda-0.9-0.json").write_text("{ of another sweep")
    assert sweep_key([main, subjects]) == key
    (subjects.priors / "lambda-0.2-0" / "training.json").write_text("{}")
    changed = sweep_key([main, subjects])
    assert changed != key
    (subjects.selected / "selection.json").unlink()
    with pytest.raises(DataError, match=r"subjects/selected/selection\.json: no such file"):
        sweep_key([main, subjects])


def test_flatten_joins_keys_and_keeps_lists():
    assert flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {"a.b": 1, "a.c.d": [2], "e": None}
