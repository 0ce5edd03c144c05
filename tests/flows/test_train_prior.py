"""``train-prior`` on a real server and worker: to the end, killed, cancelled, and with nothing to do."""

from __future__ import annotations

import json

import psutil
import pytest
from made_checkout import run
from prefect_processes import python, trainings, wait_for

from eclipse.tracking.registry import Registry

pytestmark = pytest.mark.slow
LONG = ["train.steps=2000", "train.checkpoint_every=20"]
"""Some ten seconds."""


def _training(checkout):
    """The process that trains, once it has left a checkpoint behind."""

    def found():
        states = list((checkout / "workspaces").glob("*/artifacts/checkpoints/*/*/state.pt"))
        return states and trainings(checkout)

    return wait_for(found, 400, "training with a checkpoint")


def test_killed_in_training_restarted_and_the_same_prior(server, deployed, worker, runs, tmp_path):
    run_id = runs.start_by_command("train-prior", profile="tiny", targets=["train"], push=False, overrides=LONG)
    processes = _training(deployed)
    worker.kill()
    psutil.wait_procs(processes, timeout=30)
    assert not trainings(deployed), "training outlived the worker and its flow"
    assert runs.state(run_id).is_running(), "nobody is left to say otherwise"
    folder = runs.folder(run_id)
    (state,) = folder.glob("artifacts/checkpoints/*/*/state.pt")

    closed = python(server, deployed, "-m", "flows.zombies", "--restart")
    assert "was Running, closed" in closed.stdout, closed.stdout + closed.stderr
    worker.run()
    assert runs.ended(run_id).is_completed()
    log = runs.log(run_id)
    done = ("dataset", "frozen", "embed")  # by this run, or by another one that shares the cache
    assert all(log.count(f"Running stage '{stage}'") <= 1 for stage in done), "a finished stage ran again"
    assert all(f"Stage '{stage}' didn't change" in log for stage in done)
    assert log.count("Running stage 'train@eclipse-0.2-0'") == 2
    assert not state.exists()

    words = ["-m", "eclipse", "train", "--point", "eclipse-0.2", "--seed", "0", "--store", "artifacts/store"]
    words += ["--out", str(tmp_path / "prior"), "--metrics", str(tmp_path / "m.json"), "--checkpoints", str(tmp_path)]
    alone = python(server, folder, *words)
    assert alone.returncode == 0, alone.stderr
    both = (tmp_path / "prior", folder / "artifacts/priors/eclipse-0.2-0")
    hashes = {json.loads((prior / "training.json").read_text())["prior_hash"] for prior in both}
    assert len(hashes) == 1


def test_cancelled_leaves_no_process_and_a_checkpoint(server, deployed, runs):
    asked = {"profile": "tiny", "lam": [0.7], "targets": ["train"], "push": False, "overrides": LONG}
    run_id = runs.start("train-prior/mini", **asked)
    processes = _training(deployed)
    done = python(server, deployed, "-m", "prefect", "flow-run", "cancel", run_id)
    assert done.returncode == 0, done.stdout + done.stderr
    assert runs.ended(run_id, 120).is_cancelled()
    psutil.wait_procs(processes, timeout=10)
    assert not trainings(deployed)
    assert list(runs.folder(run_id).glob("artifacts/checkpoints/eclipse-0.7-0/*/state.pt"))


def test_from_data_to_candidate(deployed, runs, candidate):
    head = run(deployed, "git", "rev-parse", "HEAD").strip()
    folder = runs.folder(candidate)
    result = run(deployed, "git", "rev-parse", f"runs/{folder.name}").strip()
    tags = runs.client.read_flow_run(candidate).tags
    assert f"commit:{result[:12]}" in tags and any(tag.startswith("dvc.lock:") for tag in tags)
    assert run(deployed, "git", "rev-parse", f"{result}^").strip() == head
    assert run(folder, "git", "status", "--porcelain") == ""
    assert list((deployed / "workspaces/remote").rglob("*.dir")), "nothing was pushed"

    version = Registry(f"sqlite:///{deployed / 'mlflow.db'}").get("eclipse-prior-eclipse-mini", "1")
    prior = json.loads((folder / "artifacts/selected/training.json").read_text())["prior_hash"]
    assert version.tags["eclipse.prior_hash"] == prior
    assert (version.tags["eclipse.git.commit"], version.tags["eclipse.git.dirty"]) == (result, "false")
    assert not (folder / "mlruns").exists() and (deployed / "mlruns").is_dir()


def test_what_a_run_shows(runs, candidate):
    shown = runs.artifacts(candidate)
    assert {"stages", "stages-progress", "lambda", "pareto", "report", "mlflow", "data-version"} <= set(shown)
    rows = {row["stage"]: row for row in json.loads(shown["stages"])}
    assert rows["report"]["outcome"] == "ran" and float(rows["report"]["seconds"]) > 0
    assert float(shown["stages-progress"]) == 100
    assert "eclipse-0.2" in shown["lambda"]
    assert shown["pareto"].startswith("data:image/svg+xml;base64,")


def test_an_equal_run_says_so_in_seconds(runs, candidate):
    again = runs.start("train-prior/mini", profile="tiny")
    state = runs.ended(again)
    assert "Everything was reused" in state.message
    assert runs.client.read_flow_run(again).total_run_time.total_seconds() < 60
    assert "Running stage" not in runs.log(again)


def test_bad_input_fails_at_once_and_once(runs):
    run_id = runs.start("train-prior/mini", push=False, profile="moon")
    state = runs.ended(run_id, 120)
    assert state.is_failed() and "no conf/profile/moon.yaml; there are kandinsky" in state.message
    assert runs.client.read_flow_run(run_id).run_count == 1


def test_trainings_as_jobs_want_a_cluster(runs, candidate):
    """What they do on one is tested in tests/components/jobs."""
    state = runs.ended(runs.start("train-prior/mini", profile="tiny", jobs=True))
    assert state.is_failed() and "no cluster" in state.message and "set KUBECONFIG" in state.message


def test_types_are_refused_before_anything_starts(server, deployed):
    done = python(server, deployed, "-m", "prefect", "deployment", "run", "train-prior/mini", "-p", 'lam=["much"]')
    assert done.returncode == 1
    assert "lam" in done.stdout + done.stderr
