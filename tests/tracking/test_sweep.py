import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml

import made_sweep
from eclipse.errors import DataError
from eclipse.lineage import SweepFiles
from eclipse.tracking import KEY, PARENT, log_sweep

POINTS = ("truth", "projection", "eclipse-0.2")
SUBJECT_POINTS = ("eclipse-0.2", "lambda-0.2", "lambda-0.2-edges")
PARAMS = {"train": {"lr": 0.001, "steps": 500}, "sweep": {"points": ["projection", "eclipse-0.2"]}}


@pytest.fixture
def files(tmp_path, store):
    paths = made_sweep.make_sweep(tmp_path, prompts=3, kept=1, seeds=(0,), points=POINTS)
    (tmp_path / "report" / "sheets").mkdir(parents=True)
    (tmp_path / "report" / "report.html").write_text("<html>")
    (tmp_path / "report" / "sheets" / "test_seen.png").write_bytes(b"png")
    (tmp_path / "metrics" / "dataset.json").write_text(json.dumps({"digest": "d" * 64, "splits": {"train": 12}}))
    (tmp_path / "dvc.lock").write_text("stages:\n  train@eclipse-0.2-0:\n    cmd: x\n")
    return SweepFiles(
        paths["evaluations"], tmp_path / "metrics/train", paths["priors"], tmp_path / "report", paths["selected"],
        (tmp_path / "metrics" / "dataset.json",), tmp_path / "dvc.lock",
    )  # fmt: skip


@pytest.fixture
def halves(files, tmp_path):
    """The main sweep, and one of λ-ECLIPSE that shares a point with it."""
    paths = made_sweep.make_subject_sweep(tmp_path, prompts=3, kept=3, points=("truth", "subject", *SUBJECT_POINTS))
    metrics, lock = paths["subject_evaluations"].parent, tmp_path / "dvc.lock"
    stages = {f"train-subjects@{point}-0": {"cmd": point} for point in SUBJECT_POINTS}
    lock.write_text(yaml.safe_dump({"stages": {"train@eclipse-0.2-0": {"cmd": "x"}, **stages}}))
    return files, SweepFiles(
        metrics / "evaluate", metrics / "train", paths["subjects"] / "priors", files.report,
        paths["subjects"] / "selected", (metrics / "dataset.json", metrics / "store.json"), lock,
        tuple(f"{point}-0" for point in SUBJECT_POINTS), "subjects",
    )  # fmt: skip


def _runs(tmp_path, query=""):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    number = client.get_experiment_by_name("sweep").experiment_id
    return client, client.search_runs([number], query)


@pytest.mark.slow
def test_the_whole_sweep_is_logged_once_and_an_interrupted_run_is_replaced(files, tmp_path):
    first = log_sweep("sweep", PARAMS, files)
    assert sorted(first.added) == ["eclipse-0.2-0", "projection-0", "truth-0"] and not first.kept
    client, runs = _runs(tmp_path)
    assert len(runs) == 4 and {run.info.status for run in runs} == {"FINISHED"}

    parent = client.get_run(first.run_id)
    assert parent.data.tags["eclipse.dataset.digest"] == "d" * 64 and parent.data.metrics["dataset/splits/train"] == 12
    assert {a.path for a in client.list_artifacts(first.run_id)} >= {
        "report.html",
        "sheets",
        "selection.json",
        "README.md",
    }

    prior_hash = json.loads((files.priors / "eclipse-0.2-0" / "training.json").read_text())["prior_hash"]
    (child,) = _runs(tmp_path, f"tags.`eclipse.prior_hash` = '{prior_hash}'")[1]
    assert child.info.run_name == "eclipse-0.2-0" and child.data.tags[PARENT] == first.run_id
    assert child.data.params["train.lr"] == "0.001" and child.data.params["lam"] == "0.2"
    assert {"eclipse.dvc_lock", "eclipse.lock.train", "eclipse.env.torch", "eclipse.store_hash"} <= set(child.data.tags)
    curve = client.get_metric_history(child.info.run_id, "curve/cos_image")
    assert [point.step for point in curve] == list(range(50, 550, 50))
    entry = json.loads((files.evaluations / "eclipse-0.2-0.json").read_text())["splits"]["test_held_out"]["composition"]
    for name, bound in (("", "value"), (".low", "low"), (".high", "high")):
        assert child.data.metrics[f"test_held_out/composition{name}"] == entry[bound]

    again = log_sweep("sweep", PARAMS, files)
    assert again.run_id == first.run_id and not again.added and len(_runs(tmp_path)[1]) == 4

    client.update_run(child.info.run_id, status="RUNNING")
    mended = log_sweep("sweep", PARAMS, files)
    assert mended.added == ["eclipse-0.2-0"] and len(_runs(tmp_path)[1]) == 4

    shutil.copy(files.evaluations / "truth-0.json", files.evaluations / "text-0.json")
    grown = log_sweep("sweep", PARAMS, files)
    assert grown.run_id != first.run_id and len(grown.added) == 4
    assert len({run.data.tags[KEY] for run in _runs(tmp_path, f"tags.`{PARENT}` = '{grown.run_id}'")[1]}) == 4


@pytest.mark.slow
def test_the_lambda_eclipse_half_has_its_runs_below_the_same_parent(halves, tmp_path):
    main, subjects = halves
    (subjects.evaluations / "lambda-0.9-0.json").write_text("{ of another sweep")
    first = log_sweep("sweep", PARAMS, *halves)
    second = ["eclipse-0.2-0", "lambda-0.2-0", "lambda-0.2-edges-0", "subject-0", "truth-0"]
    called = [f"subjects/{name}" for name in second]
    assert first.added == ["eclipse-0.2-0", "projection-0", "truth-0", *called]
    client, runs = _runs(tmp_path)
    assert len(runs) == 9 and {run.info.status for run in runs} == {"FINISHED"}
    below = {run.info.run_name: run for run in _runs(tmp_path, f"tags.`{PARENT}` = '{first.run_id}'")[1]}
    assert sorted(below) == sorted(first.added)

    for point in SUBJECT_POINTS:
        lock = hashlib.sha256(yaml.safe_dump({"cmd": point}).encode()).hexdigest()
        assert below[f"subjects/{point}-0"].data.tags["eclipse.lock.train"] == lock
    assert below["eclipse-0.2-0"].data.tags["eclipse.lock.train"] != lock
    assert below["subjects/subject-0"].data.tags["eclipse.role"] == "reference"
    edges = below["subjects/lambda-0.2-edges-0"]
    found = json.loads((subjects.evaluations / "lambda-0.2-edges-0.json").read_text())["splits"]
    for group, metric in (("test_held_out:edges", "edge_f1"), ("test_held_out:3", "concept")):
        assert edges.data.metrics[f"{group}/{metric}"] == found[group][metric]["value"]
    assert edges.data.params["point"] == "lambda-0.2-edges" and edges.data.params["lam"] == "0.2"

    parent = client.get_run(first.run_id)
    assert parent.data.tags["eclipse.dataset.digest"] == "d" * 64
    assert parent.data.tags["eclipse.subjects.dataset.digest"] == "e" * 64
    assert parent.data.metrics["dataset/splits/train"] == 12
    assert parent.data.metrics["subjects/dataset/splits/train"] == 7
    for half, folder in ((main, None), (subjects, "subjects")):
        logged = {a.path.removeprefix("subjects/") for a in client.list_artifacts(first.run_id, folder)}
        assert {"selection.json", "README.md"} <= logged
        path = client.download_artifacts(first.run_id, f"{folder}/selection.json" if folder else "selection.json")
        assert Path(path).read_text() == (half.selected / "selection.json").read_text()

    again = log_sweep("sweep", PARAMS, *halves)
    assert again.run_id == first.run_id and not again.added and len(again.kept) == 8
    alone = log_sweep("sweep", PARAMS, main)
    assert alone.run_id != first.run_id and len(alone.added) == 3


def test_a_half_without_evaluations_is_named(halves):
    shutil.rmtree(halves[1].evaluations)
    with pytest.raises(DataError, match=r"metrics/subjects/evaluate: no evaluation"):
        log_sweep("sweep", PARAMS, *halves)


def test_missing_files_are_named(files, tmp_path):
    (files.selected / "selection.json").unlink()
    with pytest.raises(DataError, match=r"selection\.json: no such file"):
        log_sweep("sweep", PARAMS, files)
    shutil.rmtree(files.evaluations)
    with pytest.raises(DataError, match="no evaluation"):
        log_sweep("sweep", PARAMS, files)
