from __future__ import annotations

import json
import logging
import multiprocessing
from pathlib import Path

import pytest
from annotate.scripted import Script, write_dataset

from eclipse.annotate.pipeline import annotate_dataset, parse_part
from eclipse.config.subjects import AnnotateParams, FilterParams
from eclipse.data.manifest import load_manifest, open_split, verify_shard
from eclipse.data.shards import read_shard
from eclipse.data.subjects import subjects_of
from eclipse.errors import ConfigError, DataError
from eclipse.files import tree_digest

PARAMS = AnnotateParams(by=("models",))
DOG = [("dog", 0.9, (2.0, 2.0, 9.0, 9.0))]
CAPTIONS = {
    "train": ["a dog", "nothing", "a dog", "a dog", "it is", "late", "a dog"],  # the third shard of two ends empty
    "val_seen": ["a dog", "a dog", "no"],
    "test_held_out": ["dog"],
}
SHARDS = 4 + 2 + 1
PARTIAL = "out.partial"


def run(tmp_path: Path, script: Script, params: AnnotateParams = PARAMS, part: tuple[int, int] | None = None):
    return annotate_dataset(params, tmp_path / "in", tmp_path / "out", models=script.models(), part=part)


def dog_script(**kwargs) -> Script:
    return Script(default=DOG, **kwargs)


@pytest.fixture
def source(tmp_path):
    return write_dataset(tmp_path / "in", CAPTIONS)


@pytest.fixture
def whole(tmp_path, source):
    """The folder's digest of an undisturbed run."""
    run(tmp_path, dog_script())
    digest = tree_digest(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "reference")
    return digest


def test_splits_ids_and_shard_names_stay(tmp_path, source):
    summary = run(tmp_path, dog_script())
    out = tmp_path / "out"
    manifest = load_manifest(out)
    assert [record.id for record in open_split(out, "train")] == ["0000", "0002", "0003", "0006"]
    assert [record.id for record in open_split(out, "val_seen")] == ["0007", "0008"]
    assert [record.id for record in open_split(out, "test_held_out")] == ["0010"]
    assert manifest.split("val_held_out").count == 0
    names = [Path(shard.file).name for shard in manifest.split("train").shards]
    assert names == ["train-00000.tar", "train-00001.tar", "train-00003.tar"]
    assert all(subjects_of(record)[0][0].word == "dog" for record in open_split(out, "train"))
    assert summary["records"] == {name: split.count for name, split in manifest.splits.items()}
    assert summary["subjects"]["train"] == {"1": 4} and summary["subjects"]["val_held_out"] == {}
    assert summary["images"]["in"] == 11 == summary["images"]["kept"] + summary["dropped"]["nouns"]
    assert summary["digest"] == manifest.digest and summary["shards"] == {"done": SHARDS, "of": SHARDS}
    assert manifest.dropped == {"excluded": 2, "nouns": 4}
    assert manifest.seed == 3 and manifest.source == "folder+subjects"
    assert json.loads((out / "funnel.json").read_text()) == summary
    assert not (tmp_path / PARTIAL).exists()
    assert sorted(path.name for path in out.iterdir()) == ["funnel.json", "manifest.json", "shards"]


@pytest.mark.parametrize("fail_at", [0, 3, 6, 8, 10])
def test_killed_at_any_shard_it_goes_on_and_ends_in_the_same_bytes(tmp_path, whole, fail_at):
    first = dog_script(fail_at=fail_at)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, first)
    assert not (tmp_path / "out").exists()
    second = dog_script()
    run(tmp_path, second)
    assert tree_digest(tmp_path / "out") == whole
    finished = [key for key in first.seen if key // 2 != fail_at // 2]
    assert not set(second.seen) & {key for key in finished if key < 6}  # training shards are pairs of pictures


def test_nothing_left_to_do_needs_no_models(tmp_path, whole, monkeypatch):
    def refuse(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("eclipse.annotate.pipeline._publish", refuse)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, dog_script())
    monkeypatch.undo()
    monkeypatch.setattr("eclipse.annotate.models.Models.load", refuse)
    annotate_dataset(PARAMS, tmp_path / "in", tmp_path / "out")
    assert tree_digest(tmp_path / "out") == whole


def test_a_finished_shard_that_was_damaged_is_made_again(tmp_path, whole):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, dog_script(fail_at=8))
    tar = tmp_path / PARTIAL / "train-00000" / "train-00000.tar"
    content = bytearray(tar.read_bytes())
    content[600] ^= 1
    tar.write_bytes(content)
    run(tmp_path, dog_script())
    assert tree_digest(tmp_path / "out") == whole


def test_another_configuration_starts_afresh_with_a_warning(tmp_path, source, caplog):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, dog_script(fail_at=8))
    script = dog_script()
    other = PARAMS.model_copy(update={"filters": FilterParams(logit=0.5)})
    with caplog.at_level(logging.WARNING):
        run(tmp_path, script, other)
    assert "starting afresh" in caplog.text
    assert sorted(script.seen) == [0, 2, 3, 6, 7, 8, 10]


def test_models_and_filters_are_the_configuration(tmp_path, source):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, dog_script(fail_at=8))
    script = dog_script()
    run(tmp_path, script, AnnotateParams())
    assert 0 not in script.seen


def test_parts_share_the_work_and_the_last_publishes(tmp_path, whole):
    scripts = [dog_script() for _ in range(3)]
    for i in (2, 0):
        summary = run(tmp_path, scripts[i], part=(i, 3))
        assert summary["digest"] is None and not (tmp_path / "out").exists()
    assert summary["shards"] == {"done": 5, "of": SHARDS}
    last = run(tmp_path, scripts[1], part=(1, 3))
    assert tree_digest(tmp_path / "out") == whole
    assert sorted(key for script in scripts for key in script.seen) == [0, 2, 3, 6, 7, 8, 10]
    late = dog_script()
    assert run(tmp_path, late, part=(0, 3)) == last
    assert late.seen == []
    assert not (tmp_path / PARTIAL).exists()


def test_parts_of_another_configuration_are_refused(tmp_path, source):
    run(tmp_path, dog_script(), part=(0, 2))
    other = PARAMS.model_copy(update={"filters": FilterParams(logit=0.5)})
    with pytest.raises(DataError, match=r"out\.partial: left by other parameters, models or data"):
        run(tmp_path, dog_script(), other, part=(1, 2))
    run(tmp_path, dog_script(), part=(1, 2))
    assert (tmp_path / "out" / "manifest.json").is_file()


def _part(folder: Path, i: int) -> None:
    run(folder, dog_script(), part=(i, 4))


def test_parts_at_the_same_time(tmp_path, whole):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_part, args=(tmp_path, i)) for i in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert tree_digest(tmp_path / "out") == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "reference"]


@pytest.mark.parametrize("part", [(-1, 2), (2, 2), (0, 0)])
def test_impossible_parts(tmp_path, source, part):
    with pytest.raises(ConfigError, match="write I/N"):
        run(tmp_path, dog_script(), part=part)


def test_parts_as_text():
    assert parse_part("0/1") == (0, 1) and parse_part("11/12") == (11, 12)
    for text in ("", "1", "2/2", "-1/2", "1/2/3", "0/0", "a/b"):
        with pytest.raises(ConfigError, match="write I/N"):
            parse_part(text)


def test_a_new_run_replaces_what_was_published(tmp_path, source):
    run(tmp_path, dog_script())
    (tmp_path / "out" / "shards" / "train-00000.tar").write_bytes(b"")
    run(tmp_path, dog_script())
    assert [record.id for record in open_split(tmp_path / "out", "train")][:1] == ["0000"]


def test_no_training_record_left(tmp_path, source):
    with pytest.raises(DataError, match=r"no training record is left; removed: .*'boxes': 7"):
        run(tmp_path, Script())
    assert not (tmp_path / "out").exists()


def test_a_damaged_shard_of_the_input_is_named_before_it_is_used(tmp_path, source):
    path = tmp_path / "in" / "shards" / "val_seen-00000.tar"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    script = dog_script()
    with pytest.raises(DataError, match=r"val_seen-00000\.tar: SHA-256"):
        run(tmp_path, script)
    assert not {7, 8} & set(script.seen)


def test_written_shards_are_what_the_manifest_says(tmp_path, source):
    run(tmp_path, dog_script())
    out = tmp_path / "out"
    for split in load_manifest(out).splits.values():
        for shard in split.shards:
            assert len(list(read_shard(verify_shard(out, shard)))) == shard.count
