from __future__ import annotations

from pathlib import Path

import pytest

from eclipse.config import load_params
from eclipse.data.manifest import load_manifest, open_split
from eclipse.data.records import SPLITS
from eclipse.data.subjects import subjects_of
from eclipse.errors import ConfigError, DataError
from eclipse.files import read_json, tree_digest, write_json
from eclipse.stages import annotate
from eclipse.stages import dataset as dataset_stage

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["data.world.train=30", "data.world.evaluation=4", "data.shard_size=12", "annotate.by=[world]"]


def _dataset(folder, *overrides):
    params = load_params(ROOT / "params.yaml", [*SMALL, *overrides])
    dataset_stage.run(params, out=folder / "dataset", metrics=folder / "dataset.json")
    return params


def _annotate(params, folder, out="subjects"):
    return annotate.run(params, dataset=folder / "dataset", out=folder / out, metrics=folder / f"{out}.json")


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("annotate")
    params = _dataset(folder)
    return folder, params, _annotate(params, folder)


def test_splits_ids_pictures_and_shards_stay(annotated):
    folder, _, _ = annotated
    before, after = load_manifest(folder / "dataset"), load_manifest(folder / "subjects")
    for split in SPLITS:
        assert [s.count for s in before.splits[split].shards] == [s.count for s in after.splits[split].shards]
        plain = [(r.id, r.image, r.meta["key"]) for r in open_split(folder / "dataset", split)]
        assert [(r.id, r.image, r.meta["key"]) for r in open_split(folder / "subjects", split)] == plain
    assert after.held_out == before.held_out
    assert after.source == "world+subjects"
    assert after.params_digest != before.params_digest


def test_every_record_has_subjects_and_the_summary_counts_them(annotated):
    folder, _, summary = annotated
    assert read_json(folder / "subjects.json") == summary
    for split in SPLITS:
        numbers = [len(subjects_of(record)) for record in open_split(folder / "subjects", split)]
        assert min(numbers) >= 1
        assert summary["subjects"][split] == {str(n): numbers.count(n) for n in sorted(set(numbers))}
        assert summary["records"][split] == len(numbers)
    assert summary["dropped"] == {}
    assert summary["digest"] == load_manifest(folder / "subjects").digest


def test_same_dataset_same_bytes(annotated):
    folder, params, _ = annotated
    _annotate(params, folder, "again")
    assert tree_digest(folder / "again") == tree_digest(folder / "subjects")


def test_a_damaged_shard_leaves_nothing_behind(tmp_path):
    params = _dataset(tmp_path)
    shard = tmp_path / "dataset/shards/val_seen-00000.tar"
    content = bytearray(shard.read_bytes())
    content[700] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match=r"val_seen-00000\.tar: SHA-256"):
        _annotate(params, tmp_path)
    assert not [path for path in tmp_path.iterdir() if "subjects" in path.name]


def test_caption_noise_and_other_data_are_refused(tmp_path):
    params = _dataset(tmp_path, "data.world.caption_noise=0.5")
    with pytest.raises(ConfigError, match=r"data\.world\.caption_noise=0"):
        _annotate(params, tmp_path)
    manifest = read_json(tmp_path / "dataset/manifest.json")
    write_json(tmp_path / "dataset/manifest.json", {**manifest, "source": "folder"})
    with pytest.raises(ConfigError, match=r"annotate\.by: .* from 'folder'; set \[models\]"):
        _annotate(params, tmp_path)


@pytest.mark.parametrize(("part", "numbers"), [(None, None), ("1/3", (1, 3))])
def test_the_papers_models_write_the_dataset_themselves(tmp_path, monkeypatch, part, numbers):
    called = []

    def annotate_dataset(params, dataset, out, *, part=None):
        called.append((params, dataset, out, part))
        return {"records": {"train": 3}}

    monkeypatch.setattr("eclipse.annotate.pipeline.annotate_dataset", annotate_dataset)
    params = load_params(ROOT / "params.yaml", ["annotate.by=[models]"])
    paths = {"dataset": tmp_path / "in", "out": tmp_path / "out", "metrics": tmp_path / "metrics.json"}
    assert annotate.run(params, **paths, part=part) == {"records": {"train": 3}} == read_json(tmp_path / "metrics.json")
    assert called == [(params.annotate, tmp_path / "in", tmp_path / "out", numbers)]


def test_parts_of_the_renderers_work_and_nobody_to_do_it_are_refused(annotated, tmp_path):
    folder, params, _ = annotated
    paths = {"dataset": folder / "dataset", "out": tmp_path / "out", "metrics": tmp_path / "metrics.json"}
    with pytest.raises(ConfigError, match=r"part 0/2: .* leave it out"):
        annotate.run(params, **paths, part="0/2")
    nobody = load_params(ROOT / "params.yaml", ["annotate.by=[]", "subjects.points=[]"])
    with pytest.raises(ConfigError, match=r"annotate\.by: is empty.*\[world\] or \[models\]"):
        annotate.run(nobody, **paths)
    assert not list(tmp_path.iterdir())
