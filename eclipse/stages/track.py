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
    subjects: Path = Path("artifacts/subjects"),
    subject_metrics: Path = Path("metrics/subjects"),
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
        subjects: folder of the λ-ECLIPSE sweep with ``priors`` and ``selected``; not read without subjects.points.
        subject_metrics: folder of its metric files, with ``dataset.json``, ``store.json``, ``train`` and ``evaluate``.
        lock: DVC's lock file; its hashes become tags where it exists.
    """
    facts = (dataset, frozen, store)
    halves = [SweepFiles(evaluations, training, priors, report, selected, facts, lock, params.sweep.names)]
    if params.subjects.points:
        halves.append(
            SweepFiles(
                evaluations=subject_metrics / "evaluate",
                training=subject_metrics / "train",
                priors=subjects / "priors",
                report=report,
                selected=subjects / "selected",
                facts=(subject_metrics / "dataset.json", subject_metrics / "store.json"),
                lock=lock,
                wanted=params.subjects.names,
                kind="subjects",
            )
        )
    done = log_sweep(params.tracking.experiment, params.model_dump(mode="json"), *halves)
    print(
        f"MLflow {done.uri}, experiment {done.experiment}: {len(done.added)} runs added, {len(done.kept)} there already"
    )
    return {"run_id": done.run_id, "added": done.added, "kept": done.kept}
