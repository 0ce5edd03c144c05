"""The whole pipeline in KFP's local runner, against the same stages run by the command lines of dvc.yaml."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from made_checkout import make_checkout

from eclipse import cli
from eclipse.embeddings.store import store_hash
from eclipse.files import read_json, tree_digest

pytestmark = pytest.mark.slow
ITEM = {"${item.point}": "eclipse-0.2", "${item.seed}": "0"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return make_checkout(tmp_path_factory.mktemp("pipeline") / "checkout")


def pipeline(checkout: Path, space: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    words = ["-m", "components.pipeline", "--local", "--space", str(space)]
    words += [word for item in ("cluster.extraction_parts=2", *overrides) for word in ("--set", item)]
    env = {name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "ECLIPSE_RELEASES")}
    env |= {"OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], cwd=checkout, env=env, capture_output=True, text=True, timeout=540)


def the(space: Path, pattern: str) -> Path:
    (found,) = space.glob(f"runs-of-kfp/*/**/{pattern}")
    return found


def as_recorded(checkout: Path, *stages: str) -> None:
    graph = yaml.safe_load((checkout / "dvc.yaml").read_text())["stages"]
    for stage in stages:
        command = graph[stage]["cmd"]
        for name, value in ITEM.items():
            command = command.replace(name, value)
        words = command.split()
        assert words[:3] == ["python", "-m", "eclipse"]
        assert cli.main([*words[3:], "--quiet"]) == 0


def test_the_whole_pipeline_makes_what_the_graph_of_record_makes(checkout, tmp_path, monkeypatch):
    ran = pipeline(checkout, tmp_path)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
    monkeypatch.chdir(checkout)
    as_recorded(checkout, "dataset", "frozen", "embed", "train")
    record = read_json(checkout / "artifacts/priors/eclipse-0.2-0/training.json")
    made = {name: the(tmp_path, f"{name}/out") for name in ("dataset", "frozen", "embed", "train", "select")}
    assert tree_digest(made["dataset"]) == tree_digest(checkout / "artifacts/dataset")
    assert store_hash(made["embed"]) == store_hash(checkout / "artifacts/store")
    assert read_json(made["train"] / "training.json") == record
    selected = read_json(made["select"] / "selection.json")
    assert selected["prior_hash"] == record["prior_hash"]

    assert record["prior_hash"] in (tmp_path / "releases/state.json").read_text(), "it is registered and offered"
    assert the(tmp_path, "report/page").read_text().lstrip().lower().startswith("<!doctype html>")
    told = the(tmp_path, "report-run/out").read_text()
    assert told.splitlines()[0].endswith(": SUCCEEDED")
    assert "| train | eclipse-0.2 0 | made | " in told and f"prior {record['prior_hash'][:12]}" in told


def test_a_run_that_fails_says_which_task_and_is_reported(checkout, tmp_path):
    (tmp_path / "images").mkdir()
    ran = pipeline(checkout, tmp_path, "data.source=folder", f"data.path={tmp_path / 'images'}")
    assert ran.returncode == 1
    assert "Inner task failed: 'dataset' inside" in ran.stderr.splitlines()[-1]
    assert "error: " in ran.stdout, "the stage's own line is in the log"
    told = the(tmp_path, "report-run/out").read_text()
    assert ": FAILED" in told.splitlines()[0] and "| dataset |  | failed |" in told
