"""Names, order and paired differences of the results; :mod:`eclipse.evaluate.summary` reads the rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from eclipse.errors import DataError
from eclipse.evaluate.bootstrap import Estimate, paired_difference
from eclipse.evaluate.summary import Row, has_edges, lam, takes_subjects
from eclipse.lineage import REFERENCES


class Heading(NamedTuple):
    """How a metric stands in a table."""

    text: str
    lower: bool = False
    digits: int = 3


METRICS = {  # in the order of the table
    "composition": Heading("composition"),
    "colour": Heading("colour"),
    "shape": Heading("shape"),
    "texture": Heading("texture"),
    "spatial": Heading("spatial"),
    "count": Heading("count"),
    "background": Heading("background"),
    "binding": Heading("binding (mirror pairs)"),
    "cosine": Heading("image cosine"),
    "text_cosine": Heading("text cosine"),
    "r1": Heading("R@1"),
    "r5": Heading("R@5"),
    "r1_all": Heading("R@1, all images"),
    "r5_all": Heading("R@5, all images"),
    "clip_score": Heading("CLIP score"),
    "manifold": Heading("manifold distance", lower=True),
    "fid": Heading("FID-like", lower=True, digits=2),
    "concept": Heading("concept: subject right"),
    "rest": Heading("composition: rest right"),
    "both": Heading("both at once"),
    "subject_colour": Heading("subject colour"),
    "subject_shape": Heading("subject shape"),
    "subject_texture": Heading("subject texture"),
    "subject_background": Heading("subject background"),
    "clip_i": Heading("CLIP-I"),
    "clip_t": Heading("CLIP-T"),
    "ccd_concept": Heading("CCD, concept", lower=True),
    "ccd_composition": Heading("CCD, composition", lower=True),
    "copy_paste": Heading("copy-paste", lower=True),
    "edge_f1": Heading("edge F1"),
}
_LABELS = {
    "truth": "ceiling: true z_x",
    "text": "floor: z_y in place of z_x",
    "subject": "subjects' own embeddings",
    "mean": "mean of these and text only",
    "projection": "Projection (λ = 0)",
    "diffusion": "Diffusion baseline",
}
_SHORT = {
    "truth": "ceiling",
    "text": "floor",
    "subject": "subjects alone",
    "mean": "mean with text only",
    "projection": "projection",
    "diffusion": "diffusion",
}


def heading(metric: str) -> Heading:
    """The metric's heading; an unknown one is named by its words."""
    return METRICS.get(metric, Heading(metric.replace("_", " ")))


def label(point: str) -> str:
    """The point's name in a table."""
    family = "λ-ECLIPSE" if takes_subjects(point) else "ECLIPSE"
    return _LABELS.get(point) or f"{family}, λ = {lam(point):g}{_edges(point)}"


def subject_label(point: str) -> str:
    """The point's name among λ-ECLIPSE's, where ECLIPSE is the baseline that sees no pictures."""
    return label(point) if takes_subjects(point) or point in _LABELS else f"ECLIPSE, text only, λ = {lam(point):g}"


def short_label(point: str) -> str:
    """The point's name inside a plot."""
    family = "λ-ECLIPSE" if takes_subjects(point) else "λ ="
    return _SHORT.get(point) or f"{family} {lam(point):g}{_edges(point)}"


def _edges(point: str) -> str:
    return ", edges" if has_edges(point) else ""


def is_reference(row: Row) -> bool:
    """Whether this is a reference, such as the ceiling or the floor, and not a trained prior."""
    return row.point in REFERENCES


def measured(row: Row, split: str, metric: str) -> Estimate | None:
    """The row's estimate, None where it was not measured."""
    return row.splits.get(split, {}).get(metric)


def present(rows: Sequence[Row], split: str) -> list[str]:
    """Metrics that any row has on ``split``: known ones in table order, then unknown ones by name."""
    names = {name for row in rows for name in row.splits.get(split, {})}
    return [name for name in METRICS if name in names] + sorted(names - set(METRICS))


def best(rows: Sequence[Row], split: str, name: str) -> float | None:
    """The best value of a metric among trained priors."""
    values = [e.value for row in rows if not is_reference(row) and (e := measured(row, split, name)) is not None]
    return (min if heading(name).lower else max)(values) if values else None


def cell(estimate: Estimate | None, name: str, best_value: float | None) -> dict[str, Any] | None:
    """A table's cell: value and interval in the metric's digits; None where it was not measured."""
    if estimate is None:
        return None
    value, low, high = (f"{v:.{heading(name).digits}f}" for v in (estimate.value, estimate.low, estimate.high))
    return {"value": value, "low": low, "high": high, "n": estimate.n, "best": estimate.value == best_value}


def differences(
    rows: Sequence[Row], details: Path, baseline: str, split: str, metrics: Sequence[str], *, count: int, seed: int
) -> dict[str, dict[str, Estimate]]:
    """Per trained point and metric: its score minus ``baseline``'s over the same prompts, seeds averaged first."""
    trained = [row for row in rows if not is_reference(row)]
    tables = {row.point: [read_prompts(details, row.point, s, split) for s in row.seeds] for row in trained}
    found: dict[str, dict[str, Estimate]] = {}
    for point, own in tables.items() if baseline in tables else ():
        for name in metrics if point != baseline else ():
            mine, other = _over_seeds(own, name), _over_seeds(tables[baseline], name)
            gap = None if mine is None or other is None else paired_difference(mine, other, count=count, seed=seed)
            if gap is not None:
                found.setdefault(point, {})[name] = gap
    return found


def _over_seeds(tables: list[dict[str, Any]], name: str) -> NDArray[np.float64] | None:
    columns = [np.asarray(table[name], np.float64) for table in tables if name in table]
    return np.mean(columns, axis=0) if len(columns) == len(tables) else None


def read_prompts(details: Path, point: str, seed: int, split: str) -> dict[str, list[Any]]:
    """Columns of ``details/<point>-<seed>/per_prompt.parquet`` for ``split``, in its order; a missing score is NaN."""
    path = details / f"{point}-{seed}" / "per_prompt.parquet"
    try:
        table = pq.read_table(path, filters=[("split", "=", split)])
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run its evaluate stage (dvc repro)") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: unreadable ({str(error).splitlines()[0]}); run its evaluate stage again") from None
    text = ("split", "id", "caption")
    return {n: v if n in text else [np.nan if x is None else x for x in v] for n, v in table.to_pydict().items()}
