"""Stage ``table``: print what the demo ends with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eclipse.config.params import Params
from eclipse.evaluate.subject_summary import collect_subjects, format_subject_table
from eclipse.evaluate.summary import Row, collect, format_table
from eclipse.files import read_json


def run(
    params: Params,
    *,
    evaluations: Path = Path("metrics/evaluate"),
    training: Path = Path("metrics/train"),
    subject_evaluations: Path = Path("metrics/subjects/evaluate"),
    report: Path = Path("artifacts/report/report.html"),
) -> dict[str, Any]:
    """Print the table of the metric files in ``evaluations`` and ``training``, and the path of ``report``.

    With subjects.points a second table, of ``subject_evaluations``, follows the first.
    The files' own intervals are shown (of several seeds: their mean bounds); the report has the joint ones.
    """
    rows = collect(evaluations, names=params.sweep.names, count=params.evaluate.bootstrap, seed=params.evaluate.seed)
    print(format_table(rows, training_seconds(training, rows)))
    subjects = _subject_rows(params, subject_evaluations)
    if subjects:
        print(f"\nλ-ECLIPSE\n{format_subject_table(subjects)}")
    print(f"report: {report}")
    return {"points": [row.point for row in (*rows, *subjects)]}


def _subject_rows(params: Params, evaluations: Path) -> list[Row]:
    if not params.subjects.points:
        return []
    settings = params.evaluate
    return collect_subjects(evaluations, names=params.subjects.names, count=settings.bootstrap, seed=settings.seed)


def training_seconds(training: Path, rows: list[Row]) -> dict[str, float]:
    """Mean training time of each row's point over its seeds, from ``training/<point>-<seed>.json``."""
    times: dict[str, float] = {}
    for row in rows:
        files = [training / f"{row.point}-{seed}.json" for seed in row.seeds]
        found = [read_json(path)["seconds"] for path in files if path.exists()]
        if found:
            times[row.point] = float(np.mean(found))
    return times
