import json
import shutil

import pytest

import made_sweep
from eclipse.errors import DataError, EclipseError
from eclipse.lineage import SweepFiles, flatten
from eclipse.tracking import KEY, PARENT, log_sweep

POINTS = ("truth", "projection", "eclipse-0.2")
PARAMS = {"train": {"lr": 0.001, "steps": 500}, "sweep": {"points": ["projection", "eclipse-0.2"]}}


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
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


def test_a_server_that_does_not_answer_is_one_line(files, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(EclipseError, match=r"http://127\.0\.0\.1:9: no MLflow server answers") as caught:
        log_sweep("sweep", PARAMS, files)
    assert "\n" not in str(caught.value)


def test_missing_files_are_named(files, tmp_path):
    (files.selected / "selection.json").unlink()
    with pytest.raises(DataError, match=r"selection\.json: no such file"):
        log_sweep("sweep", PARAMS, files)
    shutil.rmtree(files.evaluations)
    with pytest.raises(DataError, match="no evaluation"):
        log_sweep("sweep", PARAMS, files)


def test_flatten_joins_keys_and_keeps_lists():
    assert flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {"a.b": 1, "a.c.d": [2], "e": None}
