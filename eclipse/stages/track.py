"""Stage ``track``: the finished sweep in MLflow. It writes to a server, so it is no stage of the DVC graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eclipse.config.params import Params
from eclipse.lineage import SweepFiles
from eclipse.tracking import log_sweep


def run(
    params: Params,
    *,
    evaluations: Path = Path("metrics/evaluate"),
    training: Path = Path("metrics/train"),
    priors: Path = Path("artifacts/priors"),
    report: Path = Path("artifacts/report"),
    selected: Path = Path("artifacts/selected"),
    dataset: Path = Path("metrics/dataset.json"),
    frozen: Path = Path("metrics/frozen.json"),
    store: Path = Path("metrics/store.json"),
    lock: Path = Path("dvc.lock"),
) -> dict[str, Any]:
    """Log the sweep from its files; what MLflow already holds is left as it is.

    Args:
        params: all parameters, logged with every run; ``tracking.experiment`` names the experiment.
        evaluations: folder of ``<point>-<seed>.json``: a child run for each.
        training: folder of ``<point>-<seed>.json`` that training wrote.
        priors: folder of ``<point>-<seed>/`` with ``training.json`` and ``curves.csv``.
        report: the report's folder.
        selected: the selected prior's folder with ``selection.json`` and its model card.
        dataset: the dataset stage's metric file; ``frozen`` and ``store`` likewise.
        frozen: the frozen stage's metric file.
        store: the embed stage's metric file.
        lock: DVC's lock file; its hashes become tags where it exists.
    """
    facts = (dataset, frozen, store)
    files = SweepFiles(evaluations, training, priors, report, selected, facts, lock, params.sweep.points)
    done = log_sweep(params.tracking.experiment, params.model_dump(mode="json"), files)
    print(
        f"MLflow {done.uri}, experiment {done.experiment}: {len(done.added)} runs added, {len(done.kept)} there already"
    )
    return {"run_id": done.run_id, "added": done.added, "kept": done.kept}
