"""The λ study's analysis: paired differences to λ = 0 over prompts, as docs/study.md laid down before the first run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from eclipse.config.params import StudyParams
from eclipse.errors import DataError
from eclipse.evaluate.summary import lam

matplotlib.use("Agg")

DECIDES = "attributes"
REPORTED = ("attributes", "composition", "cosine", "r1")
SPLIT = "test_held_out"


@dataclass(frozen=True)
class Cell:
    """One amount of data and noise: rows with point, seed, id and the scores of held-out captions."""

    noise: float
    size: int
    rows: pd.DataFrame

    @classmethod
    def read(cls, path: Path) -> Cell:
        """Read ``<noise>-<size>.parquet``."""
        try:
            noise, size = path.stem.split("-")
            return cls(float(noise), int(size), pd.read_parquet(path))
        except ValueError:
            raise DataError(f"{path}: not named NOISE-SIZE.parquet; run the study's cells again") from None


def read_cell(details: Path, runs: list[tuple[str, int]]) -> pd.DataFrame:
    """Rows of all ``runs`` (point, seed); ``attributes`` is the mean of colour, shape and texture."""
    parts = []
    for point, seed in runs:
        rows = pq.read_table(details / f"{point}-{seed}" / "per_prompt.parquet").to_pandas()
        rows = rows.assign(point=point, seed=seed, attributes=rows[["colour", "shape", "texture"]].mean(axis=1))
        parts.append(rows[rows.split == SPLIT][["point", "seed", "id", *REPORTED]])
    return pd.concat(parts, ignore_index=True)


def results(cells: list[Cell], settings: StudyParams) -> dict[str, Any]:
    """Means of every cell, and the paired differences to λ = 0 in the figure that decides."""
    means, comparisons = [], []
    for cell in sorted(cells, key=lambda c: (c.noise, c.size)):
        where = {"noise": cell.noise, "size": cell.size}
        for point in sorted(set(cell.rows.point), key=_lam):
            rows = cell.rows[cell.rows.point == point]
            scores = {name: round(float(rows[name].mean()), 4) for name in REPORTED}
            means.append({**where, "lam": _lam(point), **scores})
            if point != "projection":
                comparisons.append({**where, "lam": _lam(point), **_difference(cell.rows, point, settings)})
    decides = f"{DECIDES} on {SPLIT}: paired difference to λ = 0 over prompts, seeds averaged, bootstrap 95 % interval"
    columns = ["caption noise", "pairs", "λ", "difference", "verdict"]
    rows = [_row(c) for c in comparisons]
    return {"decides": decides, "columns": columns, "rows": rows, "means": means, "comparisons": comparisons}


def _lam(point: str) -> float:
    return lam(point) or 0.0


def _row(c: dict[str, Any]) -> dict[str, Any]:
    """One comparison as the report shows it."""
    estimate = {"value": c["difference"], "low": c["low"], "high": c["high"]}
    return {
        "caption noise": c["noise"],
        "pairs": c["size"],
        "λ": c["lam"],
        "difference": estimate,
        "verdict": c["verdict"],
    }


def _difference(rows: pd.DataFrame, point: str, settings: StudyParams) -> dict[str, Any]:
    """Mean over prompts of (score at ``point`` − score at λ = 0), each averaged over seeds; percentile interval."""
    table = rows.pivot_table(index="id", columns="point", values=DECIDES, aggfunc="mean")
    delta = (table[point] - table["projection"]).dropna().to_numpy()
    rng = np.random.default_rng(settings.bootstrap_seed)
    draws = delta[rng.integers(len(delta), size=(settings.bootstrap, len(delta)))].mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    verdict = "helps" if low > 0 else "hurts" if high < 0 else "undecided"
    numbers = {"difference": float(delta.mean()), "low": float(low), "high": float(high)}
    return {**{k: round(v, 4) for k, v in numbers.items()}, "verdict": verdict, "prompts": len(delta)}


def report(found: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# λ study: results",
        "",
        f"The figure that decides: {found['decides']}.",
        "",
        "| caption noise | pairs | λ | difference to λ = 0 [95 %] | verdict |",
        "|---|---|---|---|---|",
    ]
    for c in found["comparisons"]:
        lines.append(f"| {c['noise']:g} | {c['size']:,} | {c['lam']:g} | {_interval(c)} | {c['verdict']} |")
    lines += ["", "| caption noise | pairs | λ | " + " | ".join(REPORTED) + " |", "|---" * (3 + len(REPORTED)) + "|"]
    for m in found["means"]:
        scores = " | ".join(f"{m[name]:.3f}" for name in REPORTED)
        lines.append(f"| {m['noise']:g} | {m['size']:,} | {m['lam']:g} | {scores} |")
    return "\n".join([*lines, ""])


def _interval(c: dict[str, Any]) -> str:
    return f"{c['difference']:+.3f} [{c['low']:+.3f}, {c['high']:+.3f}]"


def figure(found: dict[str, Any], path: Path) -> None:
    """Held-out difference to λ = 0 against the amount of data, one panel per caption noise."""
    from matplotlib import pyplot as plt

    held = pd.DataFrame(found["comparisons"])
    noises = sorted(held.noise.unique())
    fig, axes = plt.subplots(1, len(noises), figsize=(4.6 * len(noises), 3.4), sharey=True, squeeze=False)
    for axis, noise in zip(axes[0], noises, strict=True):
        for i, (value, rows) in enumerate(held[held.noise == noise].groupby("lam")):
            error = [rows.difference - rows.low, rows.high - rows.difference]
            axis.errorbar(
                rows["size"] * (1 + 0.06 * i),
                rows.difference,
                error,
                marker="os"[i % 2],
                capsize=3,
                label=f"λ = {value:g}",
            )
        axis.axhline(0, color="0.5", linewidth=0.8)
        axis.set(xscale="log", xlabel="training pairs", title=f"caption noise {noise:g}")
    axes[0][0].set_ylabel("held-out attribute accuracy\nminus that of λ = 0")
    axes[0][0].legend(frameon=False)
    fig.tight_layout()
    fig.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(fig)
