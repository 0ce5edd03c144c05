"""New captioned images: version, ingest and embed them, say how far they drifted, and train only on a change."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.deployments import run_deployment
from prefect.states import Completed

from eclipse.config import load_params
from eclipse.embeddings.header import read_header
from eclipse.files import read_json
from flows import versions
from flows.alive import add_tags, announce
from flows.commands import DVC, ECLIPSE, ask
from flows.errors import BadInputError, CommandError
from flows.parameters import Override, compose
from flows.steps import RETRIES, run_in
from flows.workspace import Workspace, committed, name_of, open_workspace

_STORE, _REFERENCE, _REPORT = "artifacts/store", "artifacts/drift/reference", "artifacts/drift/drift.json"


@task(**RETRIES)
def add_source(workspace: Workspace, source: Path) -> str:
    """Put ``source`` at params.data.path and under DVC's care (`dvc add`); that path."""
    path = load_params(workspace.folder / "params.yaml").data.path
    if path is None or path.is_absolute() or path.parts[0] in ("eclipse", "artifacts"):
        raise BadInputError(f"data.path {path}: not a place for new data; set data.path to a folder such as data/new")
    if not source.is_dir():
        raise BadInputError(f"{source}: no such folder")
    place = workspace.folder / path
    if place.exists():
        shutil.rmtree(place)
    shutil.copytree(source, place)
    run_in(workspace, [*DVC, "add", str(path)])
    return str(path)


@task(**RETRIES)
def pull_data(workspace: Workspace) -> None:
    """Fetch what the remote has of this version, and its run cache; what it lacks is computed."""
    run_in(workspace, [*DVC, "pull", "--run-cache", "--allow-missing"])


@task(**RETRIES)
def ingest(workspace: Workspace) -> None:
    """Shards, their checks, and the embedding store: what the graph has up to ``embed``."""
    run_in(workspace, [*DVC, "repro", "embed"])


@task(**RETRIES)
def measure_drift(workspace: Workspace) -> dict[str, Any] | None:
    """The drift report against the store of the commit that the run started from; None if that has no store.

    None also where the encoder itself was trained anew on the data: vectors of two encoders cannot be compared.
    """
    if not _stored(_lock_of_base(workspace)):
        get_run_logger().info(f"no store to compare with at {workspace.base[:12]}")
        return None
    reference, fresh = workspace.folder / _REFERENCE, workspace.folder / _STORE
    if reference.exists():
        shutil.rmtree(reference)
    reference.parent.mkdir(parents=True, exist_ok=True)
    try:
        run_in(workspace, [*DVC, "get", ".", _STORE, "--rev", workspace.base, "--out", _REFERENCE])
    except CommandError as error:  # neither cache nor remote has its bytes; a network's fault is another error
        get_run_logger().info(f"the store of {workspace.base[:12]} is not to be had: {error}")
        return None
    if read_header(reference).weights_hash != read_header(fresh).weights_hash:
        get_run_logger().info("another encoder than before: its vectors are not compared with the former ones")
        return None
    words = ["drift", "--reference", _REFERENCE, "--fresh", _STORE, "--out", _REPORT, "--quiet"]
    run_in(workspace, [*ECLIPSE, *words])
    report: dict[str, Any] = read_json(workspace.folder / _REPORT)
    create_table_artifact(key="drift", table=_rows(report), description=f"records: {report['records']}")
    return report


@task(**RETRIES)
def push_data(workspace: Workspace) -> None:
    """Send data and store to the remote."""
    run_in(workspace, [*DVC, "push", "--run-cache"])


@flow(name="refresh-data", log_prints=True)
def refresh_data(
    source: Path | None = None,
    profile: str | None = None,
    overrides: list[Override] | None = None,
    push: bool = True,
    train: str | None = "train-prior/mini",
    allow_dirty: bool = False,
) -> Any:
    """Take in new data; the results are a branch of the checkout that training then starts from.

    Args:
        source: folder of new data that replaces what lies at params.data.path; without one the graph is asked alone.
        profile: name of a file in conf/profile; without one, params.yaml as it is committed.
        overrides: KEY=VALUE, as data.path=data/new.
        push: send data and results to the default DVC remote.
        train: deployment to start when something changed; null starts none.
        allow_dirty: run the last commit although the checkout has uncommitted changes.
    """
    announce()
    root = versions.checkout()
    commit = committed(root, allow_dirty=allow_dirty)
    remote = versions.default_remote(root)
    if push:
        remote = versions.check_remote(remote)
    asked = {"source": source, "profile": profile, "overrides": overrides}
    with open_workspace(root, name_of("refresh-data", asked), commit, get_run_logger().info) as workspace:
        compose(workspace.folder, profile=profile, overrides=overrides)
        if remote and workspace.fresh:
            pull_data(workspace)
        if source:
            add_source(workspace, root / source)
        ingest(workspace)
        stored = _stored(workspace.folder.joinpath("dvc.lock").read_text(encoding="utf-8"))
        record = {"base": commit, "store": stored}
        # Not what lies here decides, but what was told: a run that was cut off after `ingest` has told nobody.
        if stored == _stored(_lock_of_base(workspace)) or record == workspace.published:
            return Completed(
                message=f"Nothing changed: the store is that of {workspace.head[:12]}; nothing is trained."
            )
        report = measure_drift(workspace)
        result = workspace.commit(f"{workspace.name}: new data")
        add_tags([f"commit:{result[:12]}", f"workspace:{workspace.name}"])
        if push:
            push_data(workspace)
        started = _start(train, result)
        workspace.publish(record)
    return Completed(message=f"New data in {workspace.branch} ({result[:12]}); {_told(report)}; {started}")


def _lock_of_base(workspace: Workspace) -> str:
    """dvc.lock of the commit that the run started from; empty where that has none."""
    if not ask(["git", "ls-tree", "--name-only", workspace.base, "dvc.lock"], cwd=workspace.folder):
        return ""
    return ask(["git", "show", f"{workspace.base}:dvc.lock"], cwd=workspace.folder)


def _stored(lock: str) -> str:
    """DVC's hash of the embedding store in the text of a dvc.lock; empty before there is one."""
    stages = (yaml.load(lock, yaml.CSafeLoader) or {}).get("stages", {})
    outs = stages.get("embed", {}).get("outs", [])
    return next((str(out.get("md5")) for out in outs if out["path"] == _STORE), "")


def _rows(report: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {"what": name, "MMD²": f"{report[name]['mmd2']:.6f}", "p": f"{report[name]['p']:.4f}"}
        for name in ("images", "captions")
    ]


def _told(report: dict[str, Any] | None) -> str:
    if report is None:
        return "no comparable store before it"
    return ", ".join(f"{row['what']}: MMD² {row['MMD²']} (p {row['p']})" for row in _rows(report))


def _start(train: str | None, revision: str) -> str:
    if train is None:
        return "no training was asked for"
    run: Any = run_deployment(train, parameters={"profile": None, "revision": revision}, timeout=0, as_subflow=False)
    return f"{train} was started as {run.name}"
