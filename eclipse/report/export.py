"""The page's numbers and pictures as plain files, for ``dvc plots`` and for MLflow."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from eclipse.evaluate.summary import Row, lam
from eclipse.report.figures import efficient_points
from eclipse.report.results import is_reference, measured
from eclipse.report.sheets import Sheet, draw_sheet
from eclipse.report.sources import Training


def write_plots(folder: Path, rows: Sequence[Row], trainings: Sequence[Training], metric: str) -> None:
    """``lambda.csv`` (by split and λ), ``pareto.csv`` (cosine, ``metric``) and ``curves.csv`` below ``folder``."""
    folder.mkdir(parents=True)
    swept = [
        (lam(row.point), split, m) for row in rows for split, m in row.splits.items() if lam(row.point) is not None
    ]
    tests = [(s, f"{x:g}", name, e) for x, s, m in swept if s.startswith("test_") for name, e in m.items()]
    lines = [[split, x, name, e.value, e.low, e.high, e.n] for split, x, name, e in tests]
    _write(folder / "lambda.csv", ["split", "lambda", "metric", "value", "low", "high", "n"], lines)
    pairs = [
        (r, measured(r, "test_held_out", "cosine"), measured(r, "test_held_out", metric))
        for r in rows
        if not is_reference(r)
    ]
    known = [(r.point, x.value, y.value) for r, x, y in pairs if x is not None and y is not None]
    best = efficient_points(known)
    _write(
        folder / "pareto.csv",
        ["point", "cosine", metric, "efficient"],
        [[p, x, y, int(p in best)] for p, x, y in known],
    )
    names = list(dict.fromkeys(name for t in trainings for name in t.curves))
    steps = [(t, i) for t in trainings for i in range(len(t.curves.get("step", ())))]
    table = [[t.point, t.seed, *(_blank(t.curves[n][i]) if n in t.curves else "" for n in names)] for t, i in steps]
    _write(folder / "curves.csv", ["point", "seed", *names], table)


def write_sheets(folder: Path, sheets: Iterable[Sheet]) -> None:
    """One PNG for each sheet."""
    folder.mkdir(parents=True)
    for sheet in sheets:
        draw_sheet(sheet).save(folder / f"{sheet.name}.png", optimize=True)


def _blank(value: float) -> Any:
    return value if math.isfinite(value) else ""


def _write(path: Path, head: Sequence[str], lines: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([head, *lines])
