"""The sweep in MLflow, logged from the files that stages wrote, so that a cached stage is as complete as a fresh one.

A parent run stands for the sweep, a child for each point and seed. Both carry a key, the digest of the files they
were logged from: logging the same files again adds nothing, and a run that was cut off is replaced.
"""

from __future__ import annotations

import logging
import math
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eclipse.errors import DataError, EclipseError
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

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DEFAULT_URI = "sqlite:///mlflow.db"
KEY, PARENT = "eclipse.key", "mlflow.parentRunId"
_ANSWER_SECONDS = 5
_METRICS_AT_ONCE, _OTHERS_AT_ONCE = 1000, 100  # MLflow's own limits for one log_batch
_TEXT_LIMIT = 5000  # MLflow refuses longer tags (and longer parameters above 6000)


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
    uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    empty = [half.evaluations for half in halves if not half.names()]
    if empty:
        raise DataError(f"{empty[0]}: no evaluation; run the evaluate stages first (dvc repro)")
    with _one_line_errors(uri):
        client = _client(uri)
        number = _experiment(client, experiment)
        shared = {**origin(halves[0]), **environment()}
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


def _client(uri: str) -> MlflowClient:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    if uri.startswith(("http://", "https://")):
        _knock(uri)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _knock(uri: str) -> None:
    """Ask the server for a sign of life: MLflow itself would retry for minutes."""
    try:
        urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=_ANSWER_SECONDS).close()
    except urllib.error.HTTPError:
        return  # it answered; whether it lets us in is MLflow's to say
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise EclipseError(
            f"{uri}: no MLflow server answers ({reason}); start it, or unset MLFLOW_TRACKING_URI to log to mlflow.db"
        ) from None


@contextmanager
def _one_line_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("mlflow", "sqlalchemy", "requests"):
            raise
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise EclipseError(
            f"{uri}: MLflow refused ({first}); check MLFLOW_TRACKING_URI and your rights there"
        ) from error


def _experiment(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found else client.create_experiment(name))


def _run(
    client: MlflowClient, experiment: str, name: str, key: str, tags: dict[str, str], same: Sequence[Run]
) -> tuple[str, bool]:
    """The run with ``key`` and whether it still is to be logged; of the ``same`` key, a child that was cut off goes."""
    for run in same:
        if run.info.status == "FINISHED" or PARENT not in tags:
            return run.info.run_id, run.info.status != "FINISHED"
        client.delete_run(run.info.run_id)
    limited = {name: value[:_TEXT_LIMIT] for name, value in {**tags, KEY: key}.items()}
    return client.create_run(experiment, tags=limited, run_name=name).info.run_id, True


def _log_point(client: MlflowClient, run: str, params: dict[str, Any], files: SweepFiles, name: str) -> None:
    prior = files.priors / name
    evaluation = read_json(files.evaluations / f"{name}.json")
    lineage = read_json(prior / "training.json") if prior.is_dir() else {}
    sizes = {key: lineage[key] for key in ("lam", "method", "temperature", "mse_reduction") if key in lineage}
    _log_params(client, run, {**flatten(params), "point": evaluation["point"], "seed": evaluation["seed"], **sizes})
    figures = {f"seconds/{key}": value for key, value in evaluation.get("seconds", {}).items()}
    for split, metrics in evaluation["splits"].items():
        for metric, entry in metrics.items():
            figures[f"{split}/{metric}"] = entry["value"]
            figures |= {f"{split}/{metric}.{bound}": entry[bound] for bound in ("low", "high")}
    if (files.training / f"{name}.json").exists():
        figures |= {f"train/{k}": v for k, v in flatten(read_json(files.training / f"{name}.json")).items()}
    rows = [(0, figures)]
    if (prior / "curves.csv").exists():
        rows += curve(prior / "curves.csv")
        client.log_artifact(run, str(prior / "curves.csv"))
        client.log_artifact(run, str(prior / "training.json"))
    _log_metrics(client, run, rows)
    client.log_artifact(run, str(files.evaluations / f"{name}.json"))
    client.set_terminated(run)


def _log_parent(client: MlflowClient, run: str, params: dict[str, Any], halves: Sequence[SweepFiles]) -> None:
    _log_params(client, run, flatten(params))
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
                client.set_tag(run, f"eclipse.{key}", value[:_TEXT_LIMIT])
    _log_metrics(client, run, [(0, figures)])


def _log_params(client: MlflowClient, run: str, values: dict[str, Any]) -> None:
    from mlflow.entities import Param

    made = [Param(key, str(value)[:_TEXT_LIMIT]) for key, value in values.items()]
    for start in range(0, len(made), _OTHERS_AT_ONCE):
        client.log_batch(run, params=made[start : start + _OTHERS_AT_ONCE])


def _log_metrics(client: MlflowClient, run: str, rows: list[tuple[int, dict[str, Any]]]) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    made = [Metric(k, float(v), now, step) for step, row in rows for k, v in row.items() if _is_figure(v)]
    for start in range(0, len(made), _METRICS_AT_ONCE):
        client.log_batch(run, metrics=made[start : start + _METRICS_AT_ONCE])


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
