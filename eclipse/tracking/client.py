"""One connection to MLflow: where it is, a sign of life, errors in one line, and its limits on what is logged."""

from __future__ import annotations

import logging
import math
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from eclipse.errors import EclipseError

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_URI = "sqlite:///mlflow.db"
TEXT_LIMIT = 5000
"""Characters of a tag, parameter or description; MLflow refuses longer tags (and longer parameters above 6000)."""
_ANSWER_SECONDS = 5
_METRICS_AT_ONCE, _OTHERS_AT_ONCE = 1000, 100  # MLflow's own limits for one log_batch


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or ``sqlite:///mlflow.db`` in this directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def connect(uri: str) -> MlflowClient:
    """A client of the store at ``uri``; a server that gives no sign of life is an :class:`EclipseError`."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
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
def one_line_errors(uri: str) -> Iterator[None]:
    """Turn what MLflow raises into an :class:`EclipseError` of one line that names ``uri``."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("mlflow", "sqlalchemy", "requests"):
            raise
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise EclipseError(
            f"{uri}: MLflow refused ({first}); check MLFLOW_TRACKING_URI and your rights there"
        ) from error


@contextmanager
def everywhere(uri: str) -> Iterator[None]:
    """Let ``uri`` also be the store of what in MLflow asks the environment instead of the client."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = uri
    try:
        yield
    finally:
        if before is None:
            del os.environ["MLFLOW_TRACKING_URI"]
        else:
            os.environ["MLFLOW_TRACKING_URI"] = before


def experiment_id(client: MlflowClient, name: str) -> str:
    """The id of the experiment ``name``, which is made where there is none."""
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found else client.create_experiment(name))


def limited(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags as MLflow takes them: cut to :data:`TEXT_LIMIT`."""
    return {name: value[:TEXT_LIMIT] for name, value in tags.items()}


def log_params(client: MlflowClient, run: str, values: Mapping[str, Any]) -> None:
    """Log ``values`` as parameters of ``run``, as text."""
    from mlflow.entities import Param

    made = [Param(key, str(value)[:TEXT_LIMIT]) for key, value in values.items()]
    for start in range(0, len(made), _OTHERS_AT_ONCE):
        client.log_batch(run, params=made[start : start + _OTHERS_AT_ONCE])


def log_metrics(
    client: MlflowClient, run: str, rows: Sequence[tuple[int, Mapping[str, Any]]], model_id: str | None = None
) -> None:
    """Log ``rows`` of (step, name → value) as metrics of ``run``, and of the logged model where one is given.

    What is no finite number is left out.
    """
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    made = [Metric(k, float(v), now, step, model_id) for step, row in rows for k, v in row.items() if _is_figure(v)]
    for start in range(0, len(made), _METRICS_AT_ONCE):
        client.log_batch(run, metrics=made[start : start + _METRICS_AT_ONCE])


def estimates(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """An evaluation's figures as metrics: ``<split>/<metric>``, with the bounds of its interval as .low and .high."""
    figures = {}
    for split, metrics in evaluation["splits"].items():
        for metric, entry in metrics.items():
            figures[f"{split}/{metric}"] = entry["value"]
            figures |= {f"{split}/{metric}.{bound}": entry[bound] for bound in ("low", "high")}
    return figures


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
