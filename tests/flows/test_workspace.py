"""Clones for runs: at the wanted commit, with the shared cache, one run at a time, results on a branch."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from made_checkout import commit, run

from flows.errors import BadInputError
from flows.versions import check_remote, default_remote, ledger, lock_digest, variant_of
from flows.workspace import commit_of, committed, name_of, open_workspace, try_lock


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("workspace") / "checkout"
    root.mkdir()
    run(root, "git", "init", "-q", "-b", "main")
    run(root, "python", "-m", "dvc", "init", "-q")
    (root / ".gitignore").write_text("/workspaces/\n/big\n")
    (root / "params.yaml").write_text("a: 1\n")
    commit(root, "first")
    return root


@pytest.fixture
def checkout(made, tmp_path, monkeypatch):
    monkeypatch.delenv("ECLIPSE_WORKSPACES", raising=False)
    return Path(shutil.copytree(made, tmp_path / "checkout"))


def _open(checkout: Path, name: str = "w", revision: str = "HEAD", say=lambda line: None):
    return open_workspace(checkout, name, commit_of(checkout, revision), say)


def test_results_go_to_a_branch_and_the_next_run_starts_from_them(checkout):
    base = commit_of(checkout, "HEAD")
    with _open(checkout) as workspace:
        assert workspace.fresh and workspace.head == base
        assert workspace.commit("nothing changed") == base
        (workspace.folder / "dvc.lock").write_text("results")
        (workspace.folder / "big").write_text("ignored")
        result = workspace.commit("results")
        workspace.publish({"commit": result})
    assert run(checkout, "git", "rev-parse", "runs/w").strip() == result
    assert run(checkout, "git", "rev-parse", f"refs/tags/runs/w-{result[:12]}").strip() == result, "MLflow names it"
    assert run(checkout, "git", "show", "runs/w:dvc.lock") == "results"
    assert run(checkout, "git", "status", "--porcelain") == ""
    with _open(checkout) as again:
        assert not again.fresh and again.head == result and again.base == base
        assert again.published == {"commit": result}
        assert lock_digest(again.folder)


def test_a_change_that_shows_in_no_file_time_is_committed(checkout):
    with _open(checkout) as workspace:
        params, index = workspace.folder / "params.yaml", workspace.folder / ".git/index"
        run(workspace.folder, "git", "config", "core.trustctime", "false")
        before = params.stat()
        params.write_text("a: 2\n")
        os.utime(params, ns=(before.st_atime_ns, before.st_mtime_ns))
        os.utime(index, ns=(before.st_atime_ns, before.st_mtime_ns + 10**10))
        assert run(workspace.folder, "git", "status", "--porcelain") == "", "the trap is not set"
        workspace.commit("results")
    assert run(checkout, "git", "show", "runs/w:params.yaml") == "a: 2\n"


def test_what_a_killed_run_left_is_kept_until_the_commit_moves(checkout):
    with _open(checkout) as workspace:
        (workspace.folder / "dvc.lock").write_text("half")
        (workspace.folder / "big").write_text("checkpoint")
    with _open(checkout) as again:
        assert (again.folder / "dvc.lock").read_text() == "half"
    (checkout / "params.yaml").write_text("a: 2\n")
    commit(checkout, "second")
    with _open(checkout) as moved:
        assert moved.fresh and (moved.folder / "params.yaml").read_text() == "a: 2\n"
        assert (moved.folder / "big").read_text() == "checkpoint"


def test_a_second_run_waits_for_the_first(checkout):
    told: list[str] = []
    order: list[str] = []

    def second():
        with _open(checkout, say=told.append):
            order.append("second")

    with _open(checkout) as workspace:
        thread = threading.Thread(target=second)
        thread.start()
        while not told:
            time.sleep(0.02)
        with try_lock(workspace.folder) as free:
            assert not free
        order.append("first")
    thread.join()
    assert order == ["first", "second"] and "waits" in told[0]
    with _open(checkout, "other"), _open(checkout, "w"):
        pass


def test_cache_and_remotes_are_the_checkouts(checkout):
    run(checkout, "python", "-m", "dvc", "remote", "add", "-d", "--local", "near", "storage")
    (checkout / "big").write_text("data")
    run(checkout, "python", "-m", "dvc", "add", "-q", "big")
    commit(checkout, "data")
    remote = default_remote(checkout)
    assert (remote.name, remote.url) == ("near", str(checkout / "storage"))
    with _open(checkout) as workspace:
        run(workspace.folder, "python", "-m", "dvc", "checkout", "-q")
        assert (workspace.folder / "big").read_text() == "data"
        assert default_remote(workspace.folder) == remote
        run(workspace.folder, "python", "-m", "dvc", "push", "-q")
        assert run(workspace.folder, "git", "status", "--porcelain") == ""
    assert list((checkout / "storage").rglob("*"))


def test_uncommitted_changes_are_refused_by_name(checkout):
    assert committed(checkout, allow_dirty=False) == commit_of(checkout, "HEAD")
    (checkout / "params.yaml").write_text("a: 3\n")
    (checkout / "dvc.lock").write_text("new")
    with pytest.raises(BadInputError, match=r"params.yaml, dvc.lock.*git commit.*allow_dirty.*dvc.lock is among them"):
        committed(checkout, allow_dirty=False)
    assert committed(checkout, allow_dirty=True) == commit_of(checkout, "HEAD")


def test_other_bad_input_says_what_helps(checkout, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(BadInputError, match="no git checkout"):
        committed(tmp_path / "none", allow_dirty=False)
    with pytest.raises(BadInputError, match=r"'moon': names no commit.*git fetch"):
        commit_of(checkout, "moon")
    with pytest.raises(BadInputError, match="dvc remote add"):
        check_remote(default_remote(checkout))


def test_names_follow_parameters():
    assert name_of("f", {"a": 1, "b": None}) == name_of("f", {"b": None, "a": 1}) != name_of("f", {"a": 2, "b": None})


def test_ledgers_are_the_checkouts_unless_named(checkout, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("ECLIPSE_RELEASES", raising=False)
    assert ledger(checkout)["MLFLOW_TRACKING_URI"] == f"sqlite:///{checkout}/mlflow.db"
    assert ledger(checkout)["ECLIPSE_RELEASES"] == str(checkout / "releases")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert ledger(checkout)["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:1"


def test_variants_are_told_from_names():
    assert variant_of("eclipse-prior-lambda-eclipse-mini") == "lambda-eclipse"
    assert variant_of("eclipse-prior-eclipse-mini") == "eclipse"
