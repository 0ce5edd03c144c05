import inspect
from pathlib import Path

import pytest

import made_sweep
from eclipse.config import load_params
from eclipse.stages import track
from eclipse.tracking import Logged


@pytest.fixture
def tracked(monkeypatch):
    """Runs the stage with changed parameters; returns what it says and what it would have logged."""

    def run(settings, **paths):
        seen = {}

        def log(experiment, params, *halves):
            seen.update(experiment=experiment, params=params, halves=halves)
            return Logged("sqlite:///x.db", experiment, "abc", ["a-0"], [])

        monkeypatch.setattr(track, "log_sweep", log)
        params = load_params(made_sweep.ROOT / "params.yaml", ["tracking.experiment=mine", *settings])
        return track.run(params, **paths), seen

    return run


def test_paths_have_the_defaults_that_the_graph_writes():
    defaults = {n: str(p.default) for n, p in inspect.signature(track.run).parameters.items() if n != "params"}
    assert defaults["evaluations"] == "metrics/evaluate" and defaults["selected"] == "artifacts/selected"
    assert defaults["subjects"] == "artifacts/subjects" and defaults["subject_metrics"] == "metrics/subjects"
    assert defaults["lock"] == "dvc.lock"


def test_the_stage_logs_its_files(tracked, tmp_path, capsys):
    settings = ["subjects.points=[]", "sweep.points=[diffusion,eclipse-0.5]", "sweep.seeds=[0,2]"]
    result, seen = tracked(settings, evaluations=tmp_path)
    (half,) = seen["halves"]
    assert seen["experiment"] == "mine" and half.evaluations == tmp_path and len(half.facts) == 3
    assert half.wanted == ("diffusion-0", "diffusion-2", "eclipse-0.5-0", "eclipse-0.5-2") and half.kind == ""
    assert result == {"run_id": "abc", "added": ["a-0"], "kept": []} and "1 runs added" in capsys.readouterr().out


def test_with_subjects_the_second_half_is_theirs(tracked, tmp_path):
    points = "subjects.points=[eclipse-0.2,lambda-0.2-edges]"
    _, seen = tracked([points, "subjects.seeds=[1]"], subjects=tmp_path / "s", lock=tmp_path / "dvc.lock")
    main, half = seen["halves"]
    assert half.kind == "subjects" and half.wanted == ("eclipse-0.2-1", "lambda-0.2-edges-1")
    assert (half.priors, half.selected) == (tmp_path / "s" / "priors", tmp_path / "s" / "selected")
    metrics = Path("metrics/subjects")
    assert (half.evaluations, half.training) == (metrics / "evaluate", metrics / "train")
    assert half.facts == (metrics / "dataset.json", metrics / "store.json")
    assert half.lock == main.lock == tmp_path / "dvc.lock" and half.report == main.report
