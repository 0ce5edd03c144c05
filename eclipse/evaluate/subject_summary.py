"""Evaluations on captions with subjects as one row per point, and their table."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from eclipse.evaluate.subject_groups import EDGES, HELD_OUT
from eclipse.evaluate.summary import (
    Row,
    aligned,
    collect,
    has_edges,
    interval,
    lam,
    plain,
    seeds_of,
    takes_subjects,
)

_METHOD = {
    "truth": "ceiling (true z_x)",
    "subject": "subjects' own embeddings",
    "mean": "mean of these and text only",
}
_PLAIN = {"rest": "rest", "both": "both", "clip_i": "CLIP-I", "clip_t": "CLIP-T"}


def collect_subjects(
    evaluations: Path,
    per_prompt: Path | None = None,
    *,
    names: Collection[str] | None = None,
    count: int = 2000,
    seed: int = 0,
) -> list[Row]:
    """Rows in table order from ``evaluations/<point>-<seed>.json``, as :func:`eclipse.evaluate.summary.collect` has it.

    ``names`` (``<point>-<seed>``) limits them to these and the references. A row's ``splits`` also holds the groups:
    ``test_held_out:1``, ``:2`` … by number of subjects, and ``test_held_out:edges``.
    """
    return collect(evaluations, per_prompt, names=names, count=count, seed=seed)


def format_subject_table(rows: list[Row]) -> str:
    """Method × λ × edges on held-out test captions: concept with its interval, and the figures beside it."""
    head = ["method", "λ", "edges", "concept", *_PLAIN.values(), "CCD concept / composition", "edge F1 with edges"]
    note = (
        "held-out test captions; mean over seeds, [95 % bootstrap interval over prompts]; CCD: less is better; "
        f"seeds: {seeds_of(rows)}"
    )
    return "\n".join([aligned([head] + [_cells(row) for row in rows]), note])


def _cells(row: Row) -> list[str]:
    lambda_ = lam(row.point)
    deviations = (plain(row.value(HELD_OUT, f"ccd_{name}"), ".3f") for name in ("concept", "composition"))
    return [
        _METHOD.get(row.point) or ("λ-ECLIPSE" if takes_subjects(row.point) else "ECLIPSE, text only"),
        "–" if lambda_ is None else f"{lambda_:g}",
        "yes" if has_edges(row.point) else "–",
        interval(row, HELD_OUT, "concept"),
        *(plain(row.value(HELD_OUT, metric), ".3f") for metric in _PLAIN),
        " / ".join(deviations),
        plain(row.value(EDGES, "edge_f1"), ".3f"),
    ]
