"""Analysis of the subject studies (docs/study-subjects.md): dropping edges in training, and a foreign encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from eclipse.config.params import StudyParams
from eclipse.embeddings.batch import Batch, Subjects
from eclipse.embeddings.store import Store
from eclipse.errors import StoreError
from eclipse.evaluate.bootstrap import Estimate, estimate, paired_difference
from eclipse.evaluate.subject_groups import EDGES, HELD_OUT

METRICS = ("edge_f1", "concept", "rest", "both", "cosine")
_CHUNK = 2048


@dataclass(frozen=True)
class Bridge:
    """Linear maps with intercept from a foreign encoder's space to the right one's, each float32 [D + 1, D']."""

    states: Tensor
    texts: Tensor
    images: Tensor

    def carry(self, batch: Batch) -> Batch:
        """``batch`` of the foreign encoder as the right encoder might have embedded it."""
        found = batch.subjects
        subjects = found and Subjects(_apply(self.images, found.embeds), found.owner, found.start, found.length)
        control = None if batch.control_embeds is None else _apply(self.images, batch.control_embeds)
        return Batch(
            _apply(self.states, batch.text_states),
            batch.lengths,
            _apply(self.texts, batch.prompt_embeds),
            _apply(self.images, batch.image_embeds),
            subjects or None,
            control,
        )

    def image(self, embeds: Tensor) -> Tensor:
        """Image embeddings [N, D] carried over."""
        return _apply(self.images, embeds)


def fit_bridge(foreign: Store, right: Store, *, ridge: float = 1e-3) -> Bridge:
    """Ridge regression on two stores of the same records in the same order; :class:`StoreError` where they differ."""
    if foreign.table()["id"].to_pylist() != right.table()["id"].to_pylist():
        raise StoreError(f"{foreign.folder}: holds other records than {right.folder}; embed the same dataset twice")
    index = torch.arange(len(right)).numpy()
    pairs = [(foreign.gather(index[i : i + _CHUNK]), right.gather(index[i : i + _CHUNK])) for i in
             range(0, len(right), _CHUNK)]  # fmt: skip
    names = ("text_states", "prompt_embeds", "image_embeds")
    maps = [
        _ridge(torch.cat([getattr(a, name) for a, _ in pairs]), torch.cat([getattr(b, name) for _, b in pairs]), ridge)
        for name in names
    ]
    return Bridge(*maps)


def _ridge(x: Tensor, y: Tensor, ridge: float) -> Tensor:
    x = torch.cat([x.double(), torch.ones(len(x), 1, dtype=torch.float64)], dim=1)
    gram = x.T @ x
    scale = ridge * gram.diagonal()[:-1].mean()
    penalty = torch.full((len(gram),), float(scale), dtype=torch.float64)
    penalty[-1] = 0.0  # the intercept is not shrunk
    return torch.linalg.solve(gram + penalty.diag(), x.T @ y.double()).float()


def _apply(weights: Tensor, x: Tensor) -> Tensor:
    return x @ weights[:-1] + weights[-1]


def edge_drop_results(cells: dict[float, pd.DataFrame], settings: StudyParams, baseline: float) -> dict[str, Any]:
    """Means by drop, and paired differences to ``baseline``. A cell has columns seed, split, id and :data:`METRICS`."""
    rows = []
    for drop in sorted(cells):
        line: dict[str, Any] = {"drop": drop}
        for group, words in ((EDGES, "with edges"), (HELD_OUT, "without edges")):
            for name in ("edge_f1", "concept", "rest"):
                line[f"{name.replace('_f1', ' F1')}, {words}"] = _estimate(cells[drop], group, name, settings)
        rows.append(line)
    decided = [
        {
            "drop": drop,
            "figure": f"{name}, {group}",
            **_difference(cells[drop], cells[baseline], group, name, settings),
        }
        for drop in sorted(cells)
        if drop != baseline
        for group, name in ((EDGES, "edge_f1"), (HELD_OUT, "concept"))
    ]
    return {
        "title": "How often should edges be dropped in training?",
        "decides": f"paired difference to drop = {baseline:g} over prompts, seeds averaged, bootstrap 95 % interval: "
        + "; ".join(_sentence(item) for item in decided),
        "rows": rows,
        "differences": decided,
    }


def encoder_results(ways: dict[str, pd.DataFrame], refusal: str, settings: StudyParams) -> dict[str, Any]:
    """Means of each way, paired differences to the first; rows as :func:`edge_drop_results`' cells."""
    first = next(iter(ways))
    rows = [
        {"encoder": name, **{m: _estimate(table, HELD_OUT, m, settings) for m in ("concept", "rest", "both", "cosine")}}
        for name, table in ways.items()
    ]
    decided = [
        {"encoder": name, "figure": m, **_difference(table, ways[first], HELD_OUT, m, settings)}
        for name, table in ways.items()
        if name != first
        for m in ("concept", "rest")
    ]
    return {
        "title": "What if the encoder is another one?",
        "refused by default": refusal,
        "decides": f"paired difference to {first} over prompts, bootstrap 95 % interval: "
        + "; ".join(f"{d['encoder']}, {_sentence(d)}" for d in decided),
        "rows": rows,
        "differences": decided,
    }


def markdown(found: dict[str, Any]) -> str:
    """Results as a Markdown page."""
    columns = list(found["rows"][0])
    lines = [f"# {found['title']}", "", *(f"{k.capitalize()}: {v}.\n" for k, v in found.items() if _is_remark(k, v))]
    lines += ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(_cell(row[c]) for c in columns) + " |" for row in found["rows"]]
    return "\n".join([*lines, ""])


def _is_remark(key: str, value: Any) -> bool:
    return isinstance(value, str) and key != "title"


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _over_seeds(table: pd.DataFrame, group: str, name: str) -> pd.Series:
    return table[table.split == group].groupby("id")[name].mean().dropna()


def _estimate(table: pd.DataFrame, group: str, name: str, settings: StudyParams) -> dict[str, Any]:
    values = _over_seeds(table, group, name).to_numpy()
    return _rounded(estimate(values, count=settings.bootstrap, seed=settings.bootstrap_seed))


def _difference(
    table: pd.DataFrame, baseline: pd.DataFrame, group: str, name: str, settings: StudyParams
) -> dict[str, Any]:
    mine, other = _over_seeds(table, group, name).align(_over_seeds(baseline, group, name), join="inner")
    gap = paired_difference(mine.to_numpy(), other.to_numpy(), count=settings.bootstrap, seed=settings.bootstrap_seed)
    found = _rounded(gap)
    verdict = "more" if found["low"] > 0 else "less" if found["high"] < 0 else "undecided"
    return {**found, "verdict": verdict}


def _rounded(value: Estimate | None) -> dict[str, Any]:
    if value is None:
        raise StoreError("a study's cell holds no scores; run it again")
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in value.to_dict().items()}


def _sentence(d: dict[str, Any]) -> str:
    where = f"drop {d['drop']:g}, " if "drop" in d else ""
    return f"{where}{d['figure']}: {d['value']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}], {d['verdict']}"


def figure(found: dict[str, Any], path: Any) -> None:
    """Edge F1 with edges, and concept with and without them, against the share dropped."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows: Sequence[dict[str, Any]] = found["rows"]
    shown = [
        name for name in ("edge F1, with edges", "concept, with edges", "concept, without edges") if name in rows[0]
    ]
    fig, axis = plt.subplots(figsize=(5.6, 3.6))
    for marker, name in zip("os^", shown, strict=False):
        values = [row[name] for row in rows]
        error = [[v["value"] - v["low"] for v in values], [v["high"] - v["value"] for v in values]]
        axis.errorbar(range(len(rows)), [v["value"] for v in values], error, marker=marker, capsize=3, label=name)
    axis.set_xticks(range(len(rows)), [f"{row['drop']:g}" for row in rows])
    axis.set(xlabel="share of training samples without their edges", ylabel="held-out subjects")
    axis.legend(frameon=False)
    fig.tight_layout()
    fig.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(fig)
