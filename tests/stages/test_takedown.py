from __future__ import annotations

from pathlib import Path

import pytest
from data.web.fetched import some, write_shards
from made_web import ROOT, picture

from eclipse.config import load_params
from eclipse.data.benchmarks import load_benchmarks
from eclipse.errors import ConfigError, DataError
from eclipse.files import read_json
from eclipse.stages import dataset, fingerprints, takedown


def _params(*overrides):
    return load_params(ROOT / "params.yaml", list(overrides))


def test_audit_before_and_after_the_dataset_is_made_again(tmp_path):
    write_shards(tmp_path / "in", some(15))
    web = ["data.source=img2dataset", f"data.path={tmp_path / 'in'}", "data.web.workers=1"]
    out = {"out": tmp_path / "out", "metrics": tmp_path / "metrics.json"}
    summary = dataset.run(_params(*web), **out)
    assert summary["web"]["records"] == {"found": 15, "kept": 15}
    (tmp_path / "list").write_text(f"{3:032x}\n")
    listed = f"data.web.takedown={tmp_path / 'list'}"
    with pytest.raises(DataError, match="1 records must go, see .*audit"):
        takedown.run(_params(listed), dataset=tmp_path / "out", out=tmp_path / "audit.json")
    [one] = read_json(tmp_path / "audit.json")["dataset"]
    assert (one["by"], one["url"]) == ("id", "http://pictures.example/3.jpg")
    assert dataset.run(_params(*web, listed), **out)["dropped"] == {"takedown": 1}
    assert takedown.run(_params(listed), dataset=tmp_path / "out", out=tmp_path / "audit.json")["honoured"]


def test_without_a_list_of_its_own_the_projects_counts(tmp_path, monkeypatch):
    write_shards(tmp_path / "in", some(15))
    params = _params("data.source=img2dataset", f"data.path={tmp_path / 'in'}", "data.web.workers=1")
    dataset.run(params, out=tmp_path / "out", metrics=tmp_path / "metrics.json")
    monkeypatch.chdir(tmp_path)
    audit = {"dataset": tmp_path / "out", "out": tmp_path / "audit.json"}
    with pytest.raises(ConfigError, match=r"data\.web\.takedown: is not set, and there is no conf/takedown\.txt"):
        takedown.run(params, **audit)
    Path("conf").mkdir()
    Path("conf/takedown.txt").write_text("http://pictures.example/3.jpg\n")
    with pytest.raises(DataError, match=r"1 records must go.*with data\.web\.takedown=conf/takedown\.txt"):
        takedown.run(params, **audit)


def test_fingerprints_of_an_evaluation_set(tmp_path):
    (tmp_path / "set").mkdir()
    for number in range(3):
        (tmp_path / f"set/{number}.jpg").write_bytes(picture(number))
    assert fingerprints.run(_params(), tmp_path / "set", out=tmp_path / "set.parquet") == {"pictures": 3, "prompts": 0}
    read, made = load_benchmarks([tmp_path / "set.parquet"]), load_benchmarks([tmp_path / "set"])
    assert (read.names, read.hashes.tolist()) == (made.names, made.hashes.tolist())
