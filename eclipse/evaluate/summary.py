"""Evaluations of all seeds of a point as one row, and the table that the demo ends with."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from eclipse.errors import DataError
from eclipse.evaluate.bootstrap import Estimate, bootstrap_means, percentiles
from eclipse.evaluate.subject_groups import groups_of
from eclipse.files import read_json
from eclipse.lineage import REFERENCE_NAMES

_FIRST = {"truth": 0, "text": 1, "subject": 1, "mean": 2, "diffusion": 2}
_METHOD = {
    "truth": "ceiling (true z_x)",
    "text": "floor (z_y for z_x)",
    "diffusion": "diffusion",
    "projection": "projection",
}
_SWEPT = re.compile(r"^(?:eclipse|(?P<subjects>lambda))-(?P<lam>[\d.]+)(?P<edges>-edges)?$")


@dataclass(frozen=True)
class Row:
    """One point: ``splits[split][metric]`` is the mean over ``seeds``; ``seconds`` the prior's per caption."""

    point: str
    seeds: tuple[int, ...]
    splits: dict[str, dict[str, Estimate]]
    prior_seconds: float

    def value(self, split: str, metric: str) -> float | None:
        """The metric's mean, None where it was not measured."""
        found = self.splits.get(split, {}).get(metric)
        return None if found is None else found.value


def lam(point: str) -> float | None:
    """λ of a point: 0 for projection, None where the method has none."""
    if point == "projection":
        return 0.0
    found = _SWEPT.match(point)
    return float(found["lam"]) if found else None


def takes_subjects(point: str) -> bool:
    """Whether this is a point of λ-ECLIPSE."""
    found = _SWEPT.match(point)
    return found is not None and found["subjects"] is not None


def has_edges(point: str) -> bool:
    """Whether this is a point of λ-ECLIPSE that was trained with edges."""
    return takes_subjects(point) and point.endswith("-edges")


def order(point: str) -> tuple[int, float, bool]:
    """Sort key of tables: ceiling, floor, diffusion, then by λ, then λ-ECLIPSE by λ, edges after none."""
    return _FIRST.get(point, 4 if takes_subjects(point) else 3), lam(point) or 0.0, has_edges(point)


def collect(
    evaluations: Path,
    per_prompt: Path | None = None,
    *,
    names: Collection[str] | None = None,
    count: int = 2000,
    seed: int = 0,
) -> list[Row]:
    """Rows in table order from ``evaluations/<point>-<seed>.json``.

    ``names`` (``<point>-<seed>``) limits them to these and the references: files of another sweep may still lie there.

    With ``per_prompt`` (the folder of ``<point>-<seed>/per_prompt.parquet``) an interval resamples prompts, each with
    its score averaged over seeds. Without it, and for the Fréchet distance, the bounds are averaged over seeds.
    """
    by_point: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for path in sorted(evaluations.glob("*.json")):
        if names is None or path.stem in names or path.stem in REFERENCE_NAMES:
            found = read_evaluation(path)
            by_point[found["point"]][found["seed"]] = found
    if not by_point:
        raise DataError(f"{evaluations}: holds no evaluation; run the evaluate stages (dvc repro)")
    return [_row(point, by_point[point], per_prompt, count, seed) for point in sorted(by_point, key=order)]


def read_evaluation(path: Path) -> dict[str, Any]:
    """One evaluation's JSON; :class:`DataError` if a field is missing or the name disagrees with the content."""
    found = read_json(path)
    try:
        for metrics in found["splits"].values():
            for entry in metrics.values():
                Estimate(**entry)
        named = f"{found['point']}-{found['seed']}"
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: no evaluation ({error}); run its evaluate stage again") from None
    if named != path.stem:
        raise DataError(f"{path}: holds {named}; run its evaluate stage again")
    return found


def format_table(rows: list[Row], training_seconds: dict[str, float] | None = None) -> str:
    """Method × λ: the main metric on seen and held-out test captions with intervals, image cosine, seconds.

    The main metric is composition; where no oracle judged pictures, R@1 among all images. ``training_seconds`` is
    the mean training time of each point.
    """
    main = "composition" if any(row.value("test_seen", "composition") is not None for row in rows) else "r1_all"
    title = {"composition": "composition", "r1_all": "R@1 (all images)"}[main]
    head = ["method", "λ", *(f"{name}, {split}" for name in (title, "cosine") for split in ("seen", "held-out"))]
    head += ["train s", "ms/caption"]
    note = f"test splits; mean over seeds, [95 % bootstrap interval over prompts]; seeds: {seeds_of(rows)}"
    return "\n".join([aligned([head] + [_cells(row, main, training_seconds or {}) for row in rows]), note])


def aligned(lines: list[list[str]]) -> str:
    """A table in plain text: cells of equal width in a column, the first of ``lines`` its head."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([text[0], "  ".join("─" * w for w in widths), *text[1:]])


def _cells(row: Row, main: str, training: dict[str, float]) -> list[str]:
    lambda_ = lam(row.point)
    return [
        _method(row.point),
        "–" if lambda_ is None else f"{lambda_:g}",
        *(interval(row, split, main) for split in ("test_seen", "test_held_out")),
        *(plain(row.value(split, "cosine"), ".3f") for split in ("test_seen", "test_held_out")),
        plain(training.get(row.point), ".0f"),
        plain(row.prior_seconds * 1000 or None, ".2f"),
    ]


def _method(point: str) -> str:
    swept = "λ-eclipse, edges" if has_edges(point) else "λ-eclipse" if takes_subjects(point) else "eclipse"
    return _METHOD.get(point, swept)


def interval(row: Row, split: str, metric: str) -> str:
    """The metric as it stands in a table: its mean and its interval, or a dash."""
    found = row.splits.get(split, {}).get(metric)
    return "–" if found is None else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def plain(value: float | None, form: str) -> str:
    """``value`` in ``form``, or a dash."""
    return "–" if value is None else format(value, form)


def seeds_of(rows: list[Row]) -> str:
    """All seeds of ``rows`` as a list in words."""
    return ", ".join(map(str, sorted({seed for row in rows for seed in row.seeds})))


def _row(point: str, by_seed: dict[int, dict[str, Any]], per_prompt: Path | None, count: int, seed: int) -> Row:
    runs = [by_seed[number] for number in sorted(by_seed)]
    tables = [_scores(per_prompt, point, number) for number in sorted(by_seed)] if per_prompt else []
    shared = set.intersection(*({(s, m) for s, metrics in run["splits"].items() for m in metrics} for run in runs))
    splits: dict[str, dict[str, Estimate]] = {}
    for split, metric in sorted(shared):
        entries = [Estimate(**run["splits"][split][metric]) for run in runs]
        scores = [table[split][metric] for table in tables if metric in table.get(split, {})]
        splits.setdefault(split, {})[metric] = _joined(entries, scores, count, seed)
    latency = float(np.mean([run.get("seconds", {}).get("prior_per_caption", 0.0) for run in runs]))
    return Row(point, tuple(sorted(by_seed)), splits, latency)


def _joined(entries: list[Estimate], scores: list[NDArray[np.float64]], count: int, seed: int) -> Estimate:
    value, low, high = (float(np.mean([getattr(e, name) for e in entries])) for name in ("value", "low", "high"))
    if len(scores) == len(entries):
        mean = np.mean(scores, axis=0)
        low, high = percentiles(bootstrap_means(mean[~np.isnan(mean)], count, seed))
    return Estimate(value, low, high, entries[0].n)


def _scores(per_prompt: Path, point: str, seed: int) -> dict[str, dict[str, NDArray[np.float64]]]:
    path = per_prompt / f"{point}-{seed}" / "per_prompt.parquet"
    if not path.is_file():
        raise DataError(f"{path}: no such file; run its evaluate stage (dvc repro)")
    table = pq.read_table(path)
    split = np.array(table["split"].to_pylist())
    columns = {name: table[name].to_numpy() for name in table.column_names if name not in ("split", "id", "caption")}
    groups = groups_of(split, columns.pop("n_subjects", None))
    return {group: {name: column[rows] for name, column in columns.items()} for group, rows in groups.items()}
