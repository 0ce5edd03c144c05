"""The λ study (docs/study.md): one cell is all λ and seeds at one amount of data and caption noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tqdm import tqdm

from eclipse.config import Params
from eclipse.evaluate.study import Cell, figure, read_cell, report, results
from eclipse.files import atomic_file, atomic_folder, write_json
from eclipse.stages import evaluate, train


def cell(
    params: Params, *, store: Path, evaluation: Path, dataset: Path, frozen: Path, work: Path, out: Path, size: int
) -> dict[str, Any]:
    """Train every point and seed on the first ``size`` pairs of ``store`` and judge each on the fresh ``evaluation``.

    ``dataset`` is the evaluation store's own. Finished points are kept in ``work``, so a stopped cell goes on.
    ``out`` gets one row per point, seed and caption (Parquet).
    """
    limited = params.model_copy(update={"train": params.train.model_copy(update={"limit": size})})
    runs = [(point, seed) for point in params.sweep.points for seed in params.sweep.seeds]
    for point, seed in tqdm(runs, desc=f"cell of {size}"):
        name = f"{point}-{seed}"
        prior, metrics = work / "priors" / name, work / "evaluate" / f"{name}.json"
        if metrics.exists():
            continue
        train.run(
            limited, store=store, out=prior, metrics=work / "train" / f"{name}.json",
            checkpoints=work / "checkpoints", point=point, seed=seed,
        )  # fmt: skip
        evaluate.run(
            limited, store=evaluation, frozen=frozen, dataset=dataset, prior=prior, out=work / "details" / name,
            metrics=metrics, point=point, seed=seed,
        )  # fmt: skip
    rows = read_cell(work / "details", runs)
    with atomic_file(out) as beside:
        rows.to_parquet(beside)
    return {"rows": len(rows), "runs": len(runs)}


def summary(params: Params, *, cells: Path, out: Path) -> dict[str, Any]:
    """The study's results.json, table (README.md) and figure from all cells, named ``<noise>-<size>.parquet``."""
    found = results([Cell.read(path) for path in sorted(cells.glob("*.parquet"))], params.study)
    with atomic_folder(out) as beside:
        write_json(beside / "results.json", found)
        (beside / "README.md").write_text(report(found), encoding="utf-8")
        (beside / "figures").mkdir()
        figure(found, beside / "figures" / "difference.png")
    return {"comparisons": len(found["rows"])}
