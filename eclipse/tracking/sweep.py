"""The sweep in MLflow, logged from the files that stages wrote, so that a cached stage is as complete as a fresh one.

A parent run stands for the sweep, a child for each point and seed. Both carry a key, the digest of the files they
were logged from: logging the same files again adds nothing, and a run that was cut off is replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eclipse.errors import DataError
from eclipse.files import read_json
from eclipse.lineage import (
    SweepFiles,
    curve,
    environment,
    files_digest,
    flatten,
    origin,
    point_files,
    point_tags,
    sweep_key,
)
from eclipse.tracking.client import (
    TEXT_LIMIT,
    connect,
    estimates,
    experiment_id,
    limited,
    log_metrics,
    log_params,
    one_line_errors,
    tracking_uri,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

KEY, PARENT = "eclipse.key", "mlflow.parentRunId"


@dataclass(frozen=True)
class Logged:
    """The parent run's id, and the names of the child runs that were added and that were there already."""

    uri: str
    experiment: str
    run_id: str
    added: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


def log_sweep(experiment: str, params: dict[str, Any], *halves: SweepFiles) -> Logged:
    """Log the sweep, in one half or two, to MLFLOW_TRACKING_URI (default ``sqlite:///mlflow.db`` in this directory).

    Raises :class:`EclipseError` in one line when the server does not answer or refuses, :class:`DataError` when a
    file is missing or damaged. Nothing is sent anywhere but to that server.
    """
    uri = tracking_uri()
    empty = [half.evaluations for half in halves if not half.names()]
    if empty:
        raise DataError(f"{empty[0]}: no evaluation; run the evaluate stages first (dvc repro)")
    with one_line_errors(uri):
        client = connect(uri)
        number = experiment_id(client, experiment)
        shared = {**origin(halves[0].lock), **environment()}
        key = sweep_key(halves)
        same = client.search_runs([number], f"tags.`{KEY}` = '{key}'")
        parent, fresh = _run(client, number, f"sweep {key[:8]}", key, shared, same)
        done = Logged(uri, experiment, parent)
        children = client.search_runs([number], f"tags.`{PARENT}` = '{parent}'")  # one query: each takes half a second
        for files, name in [(half, name) for half in halves for name in half.names()]:
            key = files_digest(point_files(files, name))
            called = f"{files.kind}/{name}" if files.kind else name
            tags = {**shared, **point_tags(files, name), PARENT: parent}
            child, new = _run(client, number, called, key, tags, [r for r in children if r.data.tags.get(KEY) == key])
            if new:
                _log_point(client, child, params, files, name)
            (done.added if new else done.kept).append(called)
        if fresh:
            _log_parent(client, parent, params, halves)
        return done


def _run(
    client: MlflowClient, experiment: str, name: str, key: str, tags: dict[str, str], same: Sequence[Run]
) -> tuple[str, bool]:
    """The run with ``key`` and whether it still is to be logged; of the ``same`` key, a child that was cut off goes."""
    for run in same:
        if run.info.status == "FINISHED" or PARENT not in tags:
            return run.info.run_id, run.info.status != "FINISHED"
        client.delete_run(run.info.run_id)
    return client.create_run(experiment, tags=limited({**tags, KEY: key}), run_name=name).info.run_id, True


def _log_point(client: MlflowClient, run: str, params: dict[str, Any], files: SweepFiles, name: str) -> None:
    prior = files.priors / name
    evaluation = read_json(files.evaluations / f"{name}.json")
    lineage = read_json(prior / "training.json") if prior.is_dir() else {}
    sizes = {key: lineage[key] for key in ("lam", "method", "temperature", "mse_reduction") if key in lineage}
    log_params(client, run, {**flatten(params), "point": evaluation["point"], "seed": evaluation["seed"], **sizes})
    figures = {f"seconds/{key}": value for key, value in evaluation.get("seconds", {}).items()}
    figures |= estimates(evaluation)
    if (files.training / f"{name}.json").exists():
        figures |= {f"train/{k}": v for k, v in flatten(read_json(files.training / f"{name}.json")).items()}
    rows = [(0, figures)]
    if (prior / "curves.csv").exists():
        rows += curve(prior / "curves.csv")
        client.log_artifact(run, str(prior / "curves.csv"))
        client.log_artifact(run, str(prior / "training.json"))
    log_metrics(client, run, rows)
    client.log_artifact(run, str(files.evaluations / f"{name}.json"))
    client.set_terminated(run)


def _log_parent(client: MlflowClient, run: str, params: dict[str, Any], halves: Sequence[SweepFiles]) -> None:
    log_params(client, run, flatten(params))
    for files in halves:
        _log_facts(client, run, files)
        for name in ("selection.json", "README.md"):
            client.log_artifact(run, str(files.selected / name), files.kind or None)
    report = halves[0].report
    client.log_artifact(run, str(report / "report.html"))
    for folder in ("sheets", "plots"):
        if (report / folder).is_dir():
            client.log_artifacts(run, str(report / folder), folder)
    client.set_terminated(run)


def _log_facts(client: MlflowClient, run: str, files: SweepFiles) -> None:
    figures: dict[str, Any] = {}
    for path in files.facts:
        facts = flatten(read_json(path), f"{files.kind}.{path.stem}" if files.kind else path.stem)
        figures |= {key.replace(".", "/"): value for key, value in facts.items()}
        for key, value in facts.items():
            if isinstance(value, str):
                client.set_tag(run, f"eclipse.{key}", value[:TEXT_LIMIT])
    log_metrics(client, run, [(0, figures)])
