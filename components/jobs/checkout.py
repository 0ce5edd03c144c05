"""A pod's own checkout: the submitter's commit, with the parameters and the versions of data that it was sent."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from components.jobs.errors import FailedError, JobError

PARAMS = "ECLIPSE_PARAMS"
"""Environment variable with the text of params.yaml."""
LOCK = "ECLIPSE_LOCK"
"""Environment variable with the entries of dvc.lock (YAML) of the stages that make the inputs."""
REPOSITORY = "ECLIPSE_REPOSITORY"
"""Environment variable with what git clones; without it the code that runs is copied (in the image: /srv/eclipse)."""
WORKSPACES = "ECLIPSE_WORKSPACES"
"""Environment variable with the folder of all workspaces; a shared volume where a job has several nodes."""
CHECKPOINTS = "checkpoints"
_HERE = Path(__file__).resolve().parents[2]
_LEFT_OUT = {
    _HERE: {".git", ".venv", "artifacts", "workspaces", "releases", "mlruns"},
    _HERE / ".dvc": {"tmp", "cache", "config.local"},
}


def make_checkout(name: str, commit: str | None) -> Path:
    """The checkout ``name`` below :data:`WORKSPACES`, as a killed pod left it or made anew; its absolute path.

    Checkpoints lie outside it, beside those of all other jobs, so that each node and each later pod finds them.
    """
    root = workspaces()
    folder = root / name
    if not folder.exists():
        beside = root / f".{name}.part"
        shutil.rmtree(beside, ignore_errors=True)
        root.mkdir(parents=True, exist_ok=True)
        _fill(beside, commit)
        beside.rename(folder)
    _share_checkpoints(folder, root / CHECKPOINTS)
    _send(folder)
    return folder


def workspaces() -> Path:
    """The folder of all workspaces, absolute; by default below the current one."""
    return Path(os.environ.get(WORKSPACES) or "workspaces").absolute()


def _fill(folder: Path, commit: str | None) -> None:
    source = os.environ.get(REPOSITORY)
    if source:
        _git("clone", "--quiet", "--no-checkout", source, str(folder), cwd=folder.parent)
        _git("checkout", "--quiet", "--detach", commit or "HEAD", cwd=folder)
        return
    shutil.copytree(_HERE, folder, ignore=lambda at, _: _LEFT_OUT.get(Path(at), set()) | {"__pycache__"})
    config = "[core]\n    no_scm = true\n    autostage = false\n"
    (folder / ".dvc" / "config.local").write_text(config, encoding="utf-8")


def _share_checkpoints(folder: Path, shared: Path) -> None:
    shared.mkdir(parents=True, exist_ok=True)
    link = folder / "artifacts" / CHECKPOINTS
    link.parent.mkdir(exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(shared, target_is_directory=True)


def _send(folder: Path) -> None:
    """Put the parameters and the lock entries of the submitter into the checkout, where it sent some."""
    params, entries = os.environ.get(PARAMS), os.environ.get(LOCK)
    if params:
        (folder / "params.yaml").write_text(params, encoding="utf-8")
    if entries:
        path = folder / "dvc.lock"
        lock: Any = {"schema": "2.0", "stages": {}}
        if path.exists():
            lock = yaml.safe_load(path.read_text(encoding="utf-8"))
        lock["stages"] |= _read(entries)
        path.write_text(yaml.safe_dump(lock, sort_keys=False), encoding="utf-8")


def _read(entries: str) -> dict[str, Any]:
    found: Any = yaml.safe_load(entries)
    if not isinstance(found, dict):
        raise JobError(f"{LOCK}: must hold a mapping of stages, as below `stages:` in dvc.lock")
    return found


def _git(*words: str, cwd: Path) -> None:
    done = subprocess.run(["git", *words], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FailedError(f"git {words[0]}: {' '.join(done.stderr.split())}")
