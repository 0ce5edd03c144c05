"""A component's call of a real stage: paths, exit statuses, and when a remembered result is taken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from kfp.dsl import Dataset, Metrics, Model

from closure import ROOT
from components import call as calls
from components import runs
from components.artifacts import contents, figures, lay_out, named, pick
from components.cache import content
from components.record import recorded
from eclipse.config import load_params
from eclipse.errors import ConfigError

SMALL = ["data.world.train=20", "data.world.evaluation=8", "data.shard_size=20"]


def text(*overrides):
    return yaml.safe_dump(load_params(ROOT / "params.yaml", [*SMALL, *overrides]).model_dump(mode="json"))


@pytest.fixture
def shared(tmp_path, monkeypatch):
    monkeypatch.setenv("ECLIPSE_PIPELINE", str(tmp_path / "shared"))
    return tmp_path / "shared"


def dataset(tmp_path, name, params):
    out = Dataset(uri=str(tmp_path / name / "out"))
    metrics = Metrics(uri=str(tmp_path / name / "metrics"))
    (tmp_path / name).mkdir()
    calls.call("dataset", params, name, {}, out=out, metrics=metrics)
    (note,) = runs.notes(name) or [None]
    return out, metrics, note and note["outcome"]


def test_a_result_is_taken_exactly_while_all_that_shaped_it_is_the_same(tmp_path, shared, capfd):
    out, metrics, outcome = dataset(tmp_path, "first", text())
    assert outcome == "made"
    assert out.metadata["content"] == content(Path(out.path))
    assert metrics.metadata["records.train"] == 20.0
    again, figures_again, outcome = dataset(tmp_path, "unread", text("train.steps=7", "cluster.parallel=9"))
    assert outcome == "remembered", "what the stage does not read must not matter"
    assert again.metadata == out.metadata and figures_again.metadata == metrics.metadata
    assert content(Path(again.path)) == content(Path(out.path))
    assert dataset(tmp_path, "other", text("data.seed=5"))[2] == "made"

    kept = shared / "cache/objects" / out.metadata["content"][:2] / out.metadata["content"]
    shard = next((kept / "shards").iterdir())
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    assert dataset(tmp_path, "changed", text())[2] == "made"
    assert "has changed" in capfd.readouterr().out
    shutil.rmtree(kept)
    assert dataset(tmp_path, "deleted", text())[2] == "made"
    assert "is gone" in capfd.readouterr().out
    assert dataset(tmp_path, "mended", text())[2] == "remembered"


def test_without_a_shared_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.delenv("ECLIPSE_PIPELINE", raising=False)
    out, _, note = dataset(tmp_path, "alone", text())
    assert note is None and (Path(out.path) / "manifest.json").is_file()


def test_code_flags_inputs_and_parameters_are_in_the_key(tmp_path, monkeypatch):
    seen = calls.recorded("train", yaml.safe_load(text()))
    assert ROOT / "eclipse/train/losses.py" in seen.files and set(seen.sections) == {"prior", "train"}
    code = tmp_path / "code.py"
    code.write_text("a")
    monkeypatch.setattr(calls, "recorded", lambda *_: type(seen)(seen.sections, (code,)))

    def key(*overrides, point="projection", store="a"):
        params = load_params(ROOT / "params.yaml", list(overrides))
        return calls._Call("train", params, "", {}, {}, {"point": point, "seed": "0"}, "").key({"store": store})

    before = key()
    assert key("evaluate.images=3") == before, "train does not read it"
    others = {key("train.steps=9"), key("prior.layers=9"), key(point="diffusion"), key(store="b")}
    code.write_text("b")
    others.add(key())
    assert len(others - {before}) == 5


def test_bad_input_is_one_line_and_status_2(tmp_path, shared, capfd):
    for number, params in enumerate((text() + "\nsurplus: 1", "a: [", text("data.source=folder", "data.path=none"))):
        with pytest.raises(SystemExit) as left:
            dataset(tmp_path, f"bad{number}", params)
        assert left.value.code == 2
        assert runs.notes(f"bad{number}")[0]["outcome"] == "failed"
    said = capfd.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in said] == ["error"] * 3
    assert "surplus" in said[0] and "none" in said[2]


def test_a_failing_stage_ends_the_task_with_its_status_and_leaves_no_entry(tmp_path, shared, capfd):
    folder = tmp_path / "images"
    folder.mkdir()
    with pytest.raises(SystemExit) as left:
        dataset(tmp_path, "empty", text("data.source=folder", f"data.path={folder}"))
    assert left.value.code == 2 and "error:" in capfd.readouterr().err
    assert not (shared / "cache/entries").exists()


def test_an_artifact_that_changed_since_it_was_made_is_refused(tmp_path, shared, capfd):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset/manifest.json").write_text("{}")
    dataset = Dataset(uri=str(tmp_path / "dataset"), metadata={"content": "0" * 64})
    out, metrics = Model(uri=str(tmp_path / "frozen")), Metrics(uri=str(tmp_path / "m"))
    with pytest.raises(SystemExit):
        calls.call("frozen", text(), "run", {"dataset": dataset}, out=out, metrics=metrics)
    assert "it has been changed since, run the pipeline again" in capfd.readouterr().err


def test_several_processes_train_under_torchrun_and_checkpoints_are_shared(tmp_path, shared):
    params = load_params(ROOT / "params.yaml", ["cluster.processes=4"])
    one = calls._Call("train", params, "x: 1", {}, {"out": tmp_path / "o"}, {"seed": "0"}, "")
    words = one._command(tmp_path)
    assert words[1:6] == ["-m", "components.jobs.torchrun", "--standalone", "--nproc-per-node=4", "-m"]
    assert f"--checkpoints={shared / 'checkpoints'}" in words and f"--out={tmp_path / 'o'}" in words
    assert "--seed=0" in words and words[-1] == f"--params={tmp_path / 'params.yaml'}"
    other = calls._Call("interpolate", params, "", {}, {"out": tmp_path / "o"}, {}, "grid.png")._command(tmp_path)
    assert other[1:4] == ["-m", "eclipse", "interpolate"] and f"--out={tmp_path / 'o' / 'grid.png'}" in other


def made(tmp_path, name, body="{}"):
    path = tmp_path / f"file of {name}"
    path.write_text(body)
    return Metrics(uri=str(path), metadata={"name": name})


def test_collected_artifacts_are_known_by_their_names_whatever_their_order(tmp_path):
    b, a = made(tmp_path, "eclipse-0.2-0", "b"), made(tmp_path, "projection-1", "a")
    assert contents([a, b]) == contents([b, a])
    folder = lay_out([b, a], tmp_path / "evaluations")
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "eclipse-0.2-0.json": "b", "projection-1.json": "a",
    }  # fmt: skip
    for bad in ([a, a], [a, Metrics(uri=a.uri)]):
        with pytest.raises(ConfigError, match="a name of its own"):
            named(bad)


def test_a_folder_of_folders_is_laid_out(tmp_path):
    (tmp_path / "prior").mkdir()
    (tmp_path / "prior/weights").write_text("w")
    prior = Model(uri=str(tmp_path / "prior"), metadata={"name": "lambda-0-0"})
    place = lay_out({"selected": prior, "evaluate": [prior]}, tmp_path / "subjects")
    assert (place / "selected/weights").read_text() == (place / "evaluate/lambda-0-0/weights").read_text() == "w"


def test_one_of_a_fan_out_is_picked(tmp_path, capsys):
    (tmp_path / "prior").mkdir()
    (tmp_path / "prior/weights").write_text("w")
    prior = Model(uri=str(tmp_path / "prior"), metadata={"name": "eclipse-0.2-0", "prior_hash": "ab"})
    out = Model(uri=str(tmp_path / "out"))
    pick("eclipse-0.2-0", [prior], out)
    assert (tmp_path / "out/weights").read_text() == "w" and out.metadata["prior_hash"] == "ab"
    with pytest.raises(SystemExit):
        pick("eclipse-0.3-0", [prior], out)
    assert "eclipse-0.3-0: not among eclipse-0.2-0; see subjects.text_only" in capsys.readouterr().err
    prior.metadata["content"] = "0" * 64
    with pytest.raises(SystemExit) as left:
        pick("eclipse-0.2-0", [prior], Model(uri=str(tmp_path / "out2")))
    assert left.value.code == 2 and "changed since" in capsys.readouterr().err


def test_figures_are_numbers_and_estimates_their_values():
    value = {
        "point": "x",
        "ok": True,
        "splits": {"val": {"r1": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}}},
        "s": 3,
    }
    assert figures(value) == {"splits.val.r1": 0.5, "s": 3.0}


def test_what_a_stage_depends_on_is_read_from_the_graph_with_parameters_filled_in():
    params = load_params(ROOT / "params.yaml", ["data.path=docs/examples"]).model_dump(mode="json")
    record = recorded("dataset", params)
    assert ROOT / "docs/examples" in record.files and record.sections == ("data",)
    assert not any("artifacts" in path.parts for path in recorded("report", params).files)
    with pytest.raises(ConfigError, match="no stage runs `python -m eclipse register`"):
        recorded("register", params)


def test_report_of_a_run(tmp_path, shared, capsys):
    from kfp.dsl import PipelineTaskFinalStatus

    status = PipelineTaskFinalStatus("FAILED", "job", "body", 1, "Task train\nfailed")
    runs.report("7", status, str(tmp_path / "out"))
    assert "No task left a note." in capsys.readouterr().out
    for at, told in enumerate(({"outcome": "made", "prior_hash": "f" * 64}, {"outcome": "failed"})):
        note = {"stage": "train", "point": "projection", "seed": "0", "seconds": 1.25, "at": at, **told}
        (shared / "runs/7").mkdir(parents=True, exist_ok=True)
        (shared / f"runs/7/{at}.json").write_text(json.dumps(note))
    runs.report("7", status, str(tmp_path / "out"))
    written = (tmp_path / "out").read_text()
    assert written.startswith("# Pipeline run 7: FAILED\n\nTask train failed\n\n1 made, 1 failed:\n")
    assert written.splitlines()[-2:] == [
        "| train | projection 0 | made | 1.2 | prior ffffffffffff |",
        "| train | projection 0 | failed | 1.2 |  |",
    ]
