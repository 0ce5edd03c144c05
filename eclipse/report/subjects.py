"""The report's λ-ECLIPSE section: concept against composition, numbers of subjects, edges, the paper's ablation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from eclipse.config.params import Params
from eclipse.evaluate.subject_groups import EDGES, HELD_OUT
from eclipse.evaluate.summary import Row, collect
from eclipse.files import read_json
from eclipse.report import figures, results, sources, subject_sheets
from eclipse.report.results import heading, is_reference, measured
from eclipse.report.sheets import Sheet, page_cells

_MAIN = (
    "concept", "rest", "both", "subject_colour", "subject_shape", "subject_texture", "subject_background",
    "clip_i", "clip_t", "ccd_concept", "ccd_composition", "copy_paste", "cosine",
)  # fmt: skip
_PAPER = {  # CCD concept and composition, arXiv 2402.05195, ablation table
    "lambda-0": (0.394, 0.008),
    "lambda-0.5": (0.435, -0.043),
    "lambda-0.2": (0.402, -0.026),
    "lambda-0.2-edges": (0.362, -0.020),
}


@dataclass(frozen=True)
class SubjectSection:
    """What the template shows, and the sheets to write as files."""

    context: dict[str, Any]
    sheets: tuple[Sheet, ...]


def subject_section(params: Params, evaluations: Path, folder: Path) -> SubjectSection:
    """The section from ``evaluations`` (metrics JSONs) and the sweep's ``folder`` (evaluate, dataset, selected, …)."""
    settings = params.evaluate
    details = folder / "evaluate"
    rows = collect(evaluations, details, names=params.subjects.names, count=settings.bootstrap, seed=settings.seed)
    selection = read_json(folder / "selected" / "selection.json")
    titled = subject_sheets.make_sheets(rows, folder)
    context = {
        "rule": selection["rule"],
        "main": _table(rows, [(HELD_OUT, name) for name in _MAIN], selection["point"]),
        "counts": _by_count(rows, selection["point"]),
        "edges": _edges(rows, selection["point"]),
        "ablation": _ablation(rows),
        "pareto": _pareto(rows),
        "sheets": [page_cells(sheet, title) for title, sheet in titled],
        "interpolation": _interpolation(folder / "interpolation"),
    }
    return SubjectSection(context, tuple(sheet for _, sheet in titled))


def _table(
    rows: Sequence[Row], columns: Sequence[tuple[str, str]], selected: str, prefix: Sequence[str] = ()
) -> dict[str, Any]:
    """One line for each row, one column for each (group, metric) that any row has; ``prefix`` goes before the heads."""
    prefixes = prefix or [""] * len(columns)
    known = [
        (group, name, before)
        for (group, name), before in zip(columns, prefixes, strict=True)
        if any(measured(row, group, name) for row in rows)
    ]
    best = {(group, name): results.best(rows, group, name) for group, name, _ in known}
    lines = [
        {
            "label": results.subject_label(row.point),
            "reference": is_reference(row),
            "selected": row.point == selected,
            "cells": [results.cell(measured(row, group, name), name, best[group, name]) for group, name, _ in known],
        }
        for row in rows
    ]
    heads = [f"{before}{heading(name).text} {'↓' if heading(name).lower else '↑'}" for _, name, before in known]
    return {"heads": heads, "rows": lines}


def _by_count(rows: Sequence[Row], selected: str) -> dict[str, Any]:
    tails = {group.removeprefix(f"{HELD_OUT}:") for row in rows for group in row.splits}
    numbers = sorted(int(tail) for tail in tails if tail.isdigit())
    columns = [(f"{HELD_OUT}:{n}", name) for n in numbers for name in ("concept", "rest")]
    words = [f"{n} subject{'s' if n > 1 else ''}, " for n in numbers for _ in range(2)]
    return _table(rows, columns, selected, words)


def _edges(rows: Sequence[Row], selected: str) -> dict[str, Any] | None:
    """Points trained with edges, on the same prompts without and with them."""
    trained = [row for row in rows if EDGES in row.splits]
    if not trained:
        return None
    columns = [(group, name) for name in ("edge_f1", "concept", "rest") for group in (HELD_OUT, EDGES)]
    return _table(trained, columns, selected, ["without: ", "with: "] * 3)


def _ablation(rows: Sequence[Row]) -> list[dict[str, Any]]:
    by_point = {row.point: row for row in rows}
    lines = []
    for point, paper in _PAPER.items():
        row = by_point.get(point)
        group = EDGES if point.endswith("-edges") else HELD_OUT
        here = [
            results.cell(measured(row, group, name), name, None) if row else None
            for name in ("ccd_concept", "ccd_composition")
        ]
        lines.append({"label": results.subject_label(point), "cells": [*here, *(f"{value:+.3f}" for value in paper)]})
    return lines


def _pareto(rows: Sequence[Row]) -> Markup | None:
    known = [row for row in rows if row.point != "truth" and measured(row, HELD_OUT, "rest")]
    return Markup(figures.subject_pareto(known, HELD_OUT)) if known else None


def _interpolation(folder: Path) -> dict[str, Any] | None:
    if not (folder / "grid.png").is_file():
        return None
    found = read_json(folder / "grid.json")["smoothness"]
    shown = [(name.replace("_", " "), f"{value['ratio']:.2f}") for name, value in found.items() if value.get("ratio")]
    return {"uri": sources.data_uri(folder / "grid.png"), "figures": shown}
