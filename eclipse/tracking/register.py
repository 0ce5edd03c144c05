"""Register what ``select`` chose as a version of a registered model, once.

A version stands on a run of its own, which holds its figures and what is put beside it later. The run is finished last:
one that is not tells of a registration that was cut off.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eclipse.errors import DataError
from eclipse.files import read_json
from eclipse.lineage import environment, flatten, origin
from eclipse.tracking.client import (
    TEXT_LIMIT,
    estimates,
    experiment_id,
    limited,
    log_metrics,
    log_params,
    one_line_errors,
)
from eclipse.tracking.package import CLIP_INSIDE, Package, prepare
from eclipse.tracking.registry import CANDIDATE, PRIOR_HASH, Registry, Version, model_name
from eclipse.tracking.selected import SelectedPrior, read_selected
from eclipse.tracking.sweep import KEY, PARENT

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

REGISTERS = "eclipse.registers"
"""Tag of a version's run: the name of the registered model."""
SWEEP, SWEEP_POINT = "eclipse.sweep.run", "eclipse.sweep.point_run"
"""Tags of a version: the runs of the sweep that it was selected from, and of its point and seed there."""


def register(
    registry: Registry,
    *,
    selected: Path,
    evaluations: Path,
    clip: Path,
    decoder: str,
    experiment: str,
    params: Mapping[str, Any],
    lock: Path | None = None,
    clip_inside: int = CLIP_INSIDE,
) -> tuple[Version, bool]:
    """The version that holds the prior in ``selected``, and whether it is new: then it is the ``candidate``.

    A prior of the same content that is registered already is left as it is; one whose registration was cut off is
    finished, or made again.

    Args:
        registry: where to.
        selected: the folder that ``select`` wrote.
        evaluations: folder of ``<point>-<seed>.json``, whose figures become metrics.
        clip: folder of the CLIP that the prior was trained with.
        decoder: the decoder's name in the registered model's.
        experiment: where the sweep was tracked, and the version's run goes.
        params: all parameters, logged with the run.
        lock: dvc.lock, whose hash becomes a tag where it exists.
        clip_inside: bytes up to which the CLIP is put into the model.

    Raises :class:`DataError` and :class:`CheckpointError` for files that are missing or do not belong together,
    :class:`EclipseError` where MLflow does not answer or refuses.
    """
    found = read_selected(selected)
    evaluation = evaluations / f"{found.point}.json"
    figures = _figures(evaluation)
    name = model_name(found.variant, decoder)
    client = registry.client
    with one_line_errors(registry.uri):
        for version in registry.versions(name):
            if version.tags.get(PRIOR_HASH) == found.prior_hash:
                return (version, False) if _is_finished(client, version) else (_finish(registry, version), True)
        package = prepare(found, clip, clip_inside)
        number = experiment_id(client, experiment)
        _clear(client, number, name, found.prior_hash)
        tags = limited({**found.tags(), **_code(lock), **_sweep(client, number, found.prior_hash)})
        run = _start(client, number, name, tags, found)
        log_params(client, run, {**flatten(params), "point": found.selection["point"], "seed": found.selection["seed"]})
        model_id = _log_model(client, number, run, name, package)
        log_metrics(client, run, [(0, figures)], model_id)
        client.log_artifact(run, str(evaluation), "evaluation")
        client.log_artifact(run, str(selected / "README.md"))
        description = _description(found, number, tags.get(SWEEP))
        made = registry.add(name, model_id, run_id=run, tags=tags, description=description)
        return _finish(registry, made), True


def _figures(evaluation: Path) -> dict[str, float]:
    value = read_json(evaluation)
    try:
        return estimates(value)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{evaluation}: not an evaluation ({error!r}); run its evaluate stage again") from None


def _is_finished(client: MlflowClient, version: Version) -> bool:
    return not version.run_id or client.get_run(version.run_id).info.status == "FINISHED"


def _finish(registry: Registry, version: Version) -> Version:
    registry.set_alias(version.name, CANDIDATE, version.version)
    registry.client.set_terminated(version.run_id)
    return registry.get(version.name, version.version)


def _clear(client: MlflowClient, experiment: str, name: str, prior_hash: str) -> None:
    """Delete what a registration that was cut off before it made a version has left."""
    same = f"tags.`{REGISTERS}` = '{name}' and tags.`{PRIOR_HASH}` = '{prior_hash}'"
    query = f"{same} and attributes.status != 'FINISHED'"
    for run in client.search_runs([experiment], query):
        for model in client.search_logged_models([experiment], f"source_run_id = '{run.info.run_id}'"):
            client.delete_logged_model(model.model_id)
        client.delete_run(run.info.run_id)


def _code(lock: Path | None) -> dict[str, str]:
    """Lineage of the code, under the names that versions have."""
    known = origin(lock)
    return {("eclipse.git.commit" if key.startswith("mlflow.") else key): value for key, value in known.items()}


def _sweep(client: MlflowClient, experiment: str, prior_hash: str) -> dict[str, str]:
    """The last tracked sweep that has this prior, and its run there; nothing where none was tracked."""
    query = f"tags.`{PRIOR_HASH}` = '{prior_hash}' and attributes.status = 'FINISHED'"
    for run in client.search_runs([experiment], query, order_by=["attributes.start_time DESC"]):
        if _is_of_sweep(run):
            return {SWEEP: run.data.tags[PARENT], SWEEP_POINT: run.info.run_id}
    return {}


def _is_of_sweep(run: Run) -> bool:
    return KEY in run.data.tags and PARENT in run.data.tags


def _start(client: MlflowClient, experiment: str, name: str, tags: dict[str, str], found: SelectedPrior) -> str:
    below = {PARENT: tags[SWEEP]} if SWEEP in tags else {}
    every = limited({**tags, **environment(), **below, REGISTERS: name})
    return client.create_run(experiment, tags=every, run_name=f"{name} {found.prior_hash[:8]}").info.run_id


def _log_model(client: MlflowClient, experiment: str, run: str, name: str, package: Package) -> str:
    """Log the prior as a model of ``run``; its id."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus
    from mlflow.models import Model

    tags, record = package.found.tags(), package.found.record
    facts = {key: str(value) for key, value in record.items() if not isinstance(value, dict)}
    logged = client.create_logged_model(experiment, name, source_run_id=run, tags=tags, params=facts)
    client.log_outputs(run, [LoggedModelOutput(logged.model_id, step=0)])
    described = Model(artifact_path=logged.artifact_location, run_id=run, model_id=logged.model_id)
    with tempfile.TemporaryDirectory() as beside:
        folder = Path(beside) / "model"
        package.write(folder, described)
        client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    return str(logged.model_id)


def _description(found: SelectedPrior, experiment: str, sweep: str | None) -> str:
    """The model card below a link that MLflow's page follows to the sweep."""
    link = f"Selected from [this sweep](#/experiments/{experiment}/runs/{sweep}).\n\n" if sweep else ""
    return link + found.description(TEXT_LIMIT - len(link))
