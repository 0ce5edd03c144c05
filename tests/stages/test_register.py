import inspect
import shutil
from pathlib import Path

import pytest
from made_selected import CLIP, ROOT, make_selected

from eclipse.config import load_params
from eclipse.errors import CheckpointError, DataError, EclipseError
from eclipse.releases.store import Releases
from eclipse.stages.register import run
from eclipse.tracking.registry import Registry

NAMES = ["eclipse-prior-eclipse-mini", "eclipse-prior-lambda-eclipse-mini"]


@pytest.fixture
def params():
    return load_params(ROOT / "params.yaml", ["tracking.experiment=mine", "subjects.points=[eclipse-0.2,lambda-0.2]"])


@pytest.fixture
def paths(tmp_path, monkeypatch):
    """What ``dvc repro`` leaves, at the places where it leaves it; returned with the frozen models' folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for root, metrics, point in (
        ("artifacts", "metrics", "eclipse-0.2"),
        ("artifacts/subjects", "metrics/subjects", "lambda-0.2"),
    ):
        (tmp_path / root).mkdir()
        (tmp_path / metrics).mkdir()
        made = make_selected(tmp_path / root, point=point)
        made["evaluations"].rename(tmp_path / metrics / "evaluate")
    return {"frozen": CLIP.parent}


def test_paths_have_the_defaults_that_the_graph_writes():
    defaults = {n: str(p.default) for n, p in inspect.signature(run).parameters.items() if n != "params"}
    assert defaults == {
        "selected": "artifacts/selected", "evaluations": "metrics/evaluate", "frozen": "artifacts/frozen",
        "subjects": "artifacts/subjects", "subject_metrics": "metrics/subjects", "lock": "dvc.lock",
    }  # fmt: skip


@pytest.mark.slow
def test_both_selected_priors_are_registered_once(params, paths, capsys):
    first = run(params, **paths)
    assert first == {name: {"version": "1", "new": True, "aliases": ["candidate"]} for name in NAMES}
    said = capsys.readouterr().out.splitlines()
    assert said[1] == f"MLflow sqlite:///mlflow.db: {NAMES[1]} version 1 (candidate) registered"
    assert run(params, **paths) == {name: {**told, "new": False} for name, told in first.items()}
    assert "was there already" in capsys.readouterr().out

    registry = Registry()
    assert [(v.tags["eclipse.point"], v.version) for n in NAMES for v in registry.versions(n)] == [
        ("eclipse-0.2", "1"), ("lambda-0.2", "1"),
    ]  # fmt: skip
    number = registry.client.get_run(registry.get(NAMES[0], "1").run_id).info.experiment_id
    assert registry.client.get_experiment(number).name == "mine"
    offered = Releases(Path("releases")).state().models
    assert [(name, model.candidate.version) for name, model in offered.items()] == [(name, "1") for name in NAMES]


def test_without_subjects_theirs_is_not_read(params, paths, tmp_path, monkeypatch):
    from eclipse.tracking import register

    seen = []
    monkeypatch.setattr(register, "register", lambda registry, **given: seen.append(given) or 1 / 0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'none.db'}")
    shutil.rmtree("artifacts/subjects")
    with pytest.raises(ZeroDivisionError):
        run(params.model_copy(update={"subjects": params.subjects.model_copy(update={"points": ()})}), **paths)
    assert seen[0]["clip"] == CLIP and seen[0]["decoder"] == "mini" and seen[0]["params"]["profile"] == "mini"
    with pytest.raises(DataError, match=r"artifacts/subjects/selected: no such folder; run the select stage"):
        run(params, **paths)


def test_a_server_that_does_not_answer_and_weights_that_were_not_chosen_are_one_line(params, paths, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(EclipseError, match=r"http://127\.0\.0\.1:9: no MLflow server answers"):
        run(params, **paths)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    shutil.copy("artifacts/subjects/selected/config.json", "artifacts/selected/config.json")
    with pytest.raises(CheckpointError, match=r"selection\.json: prior_hash .* was chosen, but the weights"):
        run(params, **paths)
