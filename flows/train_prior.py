"""The main job as a flow: from a commit's data and parameters to a candidate in MLflow's registry.

One task reproduces the whole graph, on purpose: DVC knows what is up to date, and a second scheduler inside would not.
"""

from __future__ import annotations

import os
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.concurrency.sync import concurrency
from prefect.events import emit_event
from prefect.states import Completed

from flows import artifacts, versions
from flows.alive import add_tags, announce
from flows.commands import DVC, ECLIPSE, JOBS, ask
from flows.parameters import Lam, Override, Seed, compose
from flows.stage_log import StageLog
from flows.steps import RETRIES, run_in
from flows.versions import variant_of
from flows.workspace import Workspace, commit_of, committed, name_of, open_workspace

CANDIDATE_EVENT = "eclipse.candidate.registered"
_REGISTERED = re.compile(r"(?P<name>eclipse-prior-[a-z0-9-]+) version (?P<version>\d+)\b.* registered$")


@task(**RETRIES)
def pull_data(workspace: Workspace) -> None:
    """Fetch what the remote has of this version, and its run cache; what it lacks is computed."""
    run_in(workspace, [*DVC, "pull", "--run-cache", "--allow-missing"])


@task(**RETRIES)
def train_on_cluster(workspace: Workspace) -> None:
    """Train the sweep as jobs of its own on the cluster; the results come back as if they had been trained here."""
    run_in(workspace, [*JOBS, "submit"])


@task(**RETRIES)
def reproduce(workspace: Workspace, targets: list[str], remote: bool, limit: str | None) -> StageLog:
    """Bring the graph, or ``targets`` of it, up to date. A stage that is up to date is not run."""
    say = get_run_logger().info
    total = 0 if targets else len(ask([*DVC, "stage", "list", "--name-only"], cwd=workspace.folder).split())
    progress = artifacts.Progress("stages-progress", total)
    log = StageLog(progress)

    def read(line: str) -> None:
        say(line)
        log.feed(line)

    try:
        with concurrency(limit, occupy=1, strict=True) if limit else nullcontext():
            run_in(workspace, [*DVC, "repro", *(["--pull"] if remote else []), *targets], read)
    finally:
        log.close()
        artifacts.show_stages(log)
    progress.done()
    return log


@task(**RETRIES)
def track(workspace: Workspace) -> None:
    """Log the sweep to MLflow from the files that the stages wrote."""
    run_in(workspace, [*ECLIPSE, "track", "--quiet"])


@task(**RETRIES)
def register(workspace: Workspace) -> list[tuple[str, str]]:
    """Register what was selected; (name, version) of each that is new, and so the candidate."""
    lines = run_in(workspace, [*ECLIPSE, "register", "--quiet"])
    new = [(found["name"], found["version"]) for line in lines if (found := _REGISTERED.search(line))]
    for name, version in new:
        _tell(name, version)  # at once: a run that is killed after this finds nothing new when it is started again
    return new


@task(**RETRIES)
def push_data(workspace: Workspace) -> None:
    """Send results and run cache to the remote, so that another machine finds them and recomputes nothing."""
    run_in(workspace, [*DVC, "push", "--run-cache"])
    run_in(workspace, [*JOBS, "push"])  # the files that git keeps too, which DVC's run cache refers to and leaves out


@flow(name="train-prior", log_prints=True)
def train_prior(
    profile: str | None = None,
    lam: list[Lam] | None = None,
    seeds: list[Seed] | None = None,
    overrides: list[Override] | None = None,
    targets: list[str] | None = None,
    push: bool = True,
    revision: str | None = None,
    allow_dirty: bool = False,
    limit: str | None = None,
    jobs: bool | None = None,
) -> Any:
    """Data to candidate for the checkout's commit, in a clone of its own.

    Args:
        profile: name of a file in conf/profile; without one, params.yaml as it is committed.
        lam: λ of the sweep: points eclipse-λ, and lambda-λ in the sweep with subjects.
        seeds: seeds of every point.
        overrides: KEY=VALUE, as train.steps=800.
        targets: DVC stages to stop at, as train; nothing is then logged or registered.
        push: send the results to the default DVC remote.
        revision: git revision to run; by default the commit that the checkout stands at.
        allow_dirty: run the last commit although the checkout has uncommitted changes.
        limit: name of a global concurrency limit to hold while stages run, as gpu.
        jobs: train each point as a job on the cluster; by default if ECLIPSE_TRAIN_JOBS is 1, as the Kubernetes pool
            sets it.
    """
    announce()
    say = get_run_logger().info
    root = versions.checkout()
    commit = commit_of(root, revision) if revision else committed(root, allow_dirty=allow_dirty)
    remote = versions.default_remote(root)
    jobs = os.environ.get("ECLIPSE_TRAIN_JOBS") == "1" if jobs is None else jobs
    if push or jobs:
        remote = versions.check_remote(remote)
    asked = {"profile": profile, "lam": lam, "seeds": seeds, "overrides": overrides, "revision": revision}
    with open_workspace(root, name_of("train-prior", asked), commit, say) as workspace:
        say(f"commit {commit[:12]} in {workspace.folder}")
        add_tags([f"workspace:{workspace.name}", f"commit:{commit[:12]}"])
        compose(workspace.folder, profile=profile, lam=lam, seeds=seeds, overrides=overrides)
        if remote and workspace.fresh:
            pull_data(workspace)
        if jobs:
            train_on_cluster(workspace)
        log = reproduce(workspace, targets or [], remote is not None, limit)
        return _record(workspace, log, remote if push else None, whole=not targets)


def _record(workspace: Workspace, log: StageLog, remote: versions.Remote | None, *, whole: bool) -> Any:
    """Commit, log, register and push; say so where an equal run did all that before."""
    result = workspace.commit(f"{workspace.name}: results\n\nStages that ran: {', '.join(log.ran) or 'none'}")
    lock = versions.lock_digest(workspace.folder)
    url = remote.url if remote else None
    record = {"commit": result, "mlflow": versions.tracking_uri(workspace.checkout), "whole": whole, "remote": url}
    version = versions.DataVersion(workspace.base, result, lock, url)
    add_tags(version.tags)
    if not log.ran and record == workspace.published and _ledger_is_there(workspace.checkout):
        artifacts.show_version(version)
        return Completed(message=f"Everything was reused: {result[:12]} is up to date, logged and registered.")
    new = _log_and_register(workspace) if whole else []
    if remote:
        push_data(workspace)
    artifacts.show_version(version)
    workspace.publish(record)
    said = ", ".join(f"{name} version {number} is the candidate" for name, number in new) or "no new candidate"
    return Completed(message=f"{len(log.ran)} stages ran, {len(log.reused)} were reused; {said}.")


def _log_and_register(workspace: Workspace) -> list[tuple[str, str]]:
    track(workspace)
    new = register(workspace)
    artifacts.show_sweep(workspace.folder)
    artifacts.show_links(workspace.folder, workspace.checkout)
    return new


def _tell(name: str, version: str) -> None:
    """The event that starts ``promote-prior`` (prefect.yaml)."""
    resource = {"prefect.resource.id": f"eclipse.model.{name}", "eclipse.name": name, "eclipse.version": version}
    payload = {"name": name, "version": version, "variant": variant_of(name)}
    emit_event(CANDIDATE_EVENT, resource=resource, payload=payload)


def _ledger_is_there(folder: Path) -> bool:
    uri = versions.tracking_uri(folder)
    return not uri.startswith("sqlite:///") or Path(uri.removeprefix("sqlite:///")).is_file()


if __name__ == "__main__":
    train_prior()
