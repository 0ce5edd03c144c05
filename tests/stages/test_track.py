import inspect

from eclipse.stages import track


def test_paths_have_the_defaults_that_the_graph_writes():
    defaults = {n: str(p.default) for n, p in inspect.signature(track.run).parameters.items() if n != "params"}
    assert defaults["evaluations"] == "metrics/evaluate" and defaults["selected"] == "artifacts/selected"
    assert defaults["lock"] == "dvc.lock"


def test_the_stage_logs_its_files(monkeypatch, tmp_path, capsys):
    import made_sweep
    from eclipse.config import load_params
    from eclipse.tracking import Logged

    seen = {}

    def log(experiment, params, files):
        seen.update(experiment=experiment, params=params, files=files)
        return Logged("sqlite:///x.db", experiment, "abc", ["a-0"], [])

    monkeypatch.setattr(track, "log_sweep", log)
    params = load_params(made_sweep.ROOT / "params.yaml", ["tracking.experiment=mine"])
    result = track.run(params, evaluations=tmp_path)
    assert seen["experiment"] == "mine" and seen["files"].evaluations == tmp_path and len(seen["files"].facts) == 3
    assert result == {"run_id": "abc", "added": ["a-0"], "kept": []} and "1 runs added" in capsys.readouterr().out
