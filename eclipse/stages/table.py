"""Stage ``table``: print what the demo ends with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eclipse.config.params import Params
from eclipse.evaluate.summary import Row, collect, format_table
from eclipse.files import read_json


def run(
    params: Params,
    *,
    evaluations: Path = Path("metrics/evaluate"),
    training: Path = Path("metrics/train"),
    report: Path = Path("artifacts/report/report.html"),
) -> dict[str, Any]:
    """Print the table of the metric files in ``evaluations`` and ``training``, and the path of ``report``.

    The files' own intervals are shown (of several seeds: their mean bounds); the report has the joint ones.
    """
    rows = collect(evaluations, points=params.sweep.points, count=params.evaluate.bootstrap, seed=params.evaluate.seed)
    print(format_table(rows, training_seconds(training, rows)))
    print(f"report: {report}")
    return {"points": [row.point for row in rows]}


def training_seconds(training: Path, rows: list[Row]) -> dict[str, float]:
    """Mean training time of each row's point over its seeds, from ``training/<point>-<seed>.json``."""
    times: dict[str, float] = {}
    for row in rows:
        files = [training / f"{row.point}-{seed}.json" for seed in row.seeds]
        found = [read_json(path)["seconds"] for path in files if path.exists()]
        if found:
            times[row.point] = float(np.mean(found))
    return times
