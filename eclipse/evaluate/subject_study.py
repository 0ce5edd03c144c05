"""Analysis of the subject studies (docs/study-subjects.md): dropping edges in training, and a foreign encoder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from eclipse.config.params import StudyParams
from eclipse.embeddings.batch import Batch
from eclipse.embeddings.store import Store
from eclipse.errors import ConfigError, DataError, StoreError
from eclipse.evaluate.bootstrap import Estimate, estimate, paired_difference
from eclipse.evaluate.subject_groups import EDGES, HELD_OUT

METRICS = ("edge_f1", "concept", "rest", "both", "cosine")
_WORDS = {EDGES: "with edges", HELD_OUT: "without edges"}
_CHUNK = 2048


@dataclass(frozen=True)
class Bridge:
    """Linear maps with intercept from a foreign encoder's space to the right one's, each float32 [D + 1, D'].

    The last row is the intercept. ``images`` also carries subjects and edge maps: they are image embeddings.
    """

    states: Tensor
    texts: Tensor
    images: Tensor

    def carry(self, batch: Batch) -> Batch:
        """``batch`` of the foreign encoder as the right encoder might have embedded it."""
        subjects, control = batch.subjects, batch.control_embeds
        return Batch(
            _apply(self.states, batch.text_states),
            batch.lengths,
            _apply(self.texts, batch.prompt_embeds),
            self.image(batch.image_embeds),
            None if subjects is None else replace(subjects, embeds=self.image(subjects.embeds)),
            None if control is None else self.image(control),
        )

    def image(self, embeds: Tensor) -> Tensor:
        """Image embeddings [N, P] carried over: [N, P']."""
        return _apply(self.images, embeds)


def fit_bridge(foreign: Store, right: Store, *, ridge: float = 1e-3) -> Bridge:
    """Ridge regression on all records of two stores of one dataset; :class:`StoreError` where they differ.

    ``ridge`` is the penalty as a share of the mean variance of the foreign embeddings' channels.
    """
    _check_same_records(foreign, right)
    index = np.arange(len(right))
    chunks = [index[i : i + _CHUNK] for i in range(0, len(index), _CHUNK)]
    pairs = [(foreign.gather(chunk), right.gather(chunk)) for chunk in chunks]
    maps = [
        _ridge(torch.cat([getattr(a, name) for a, _ in pairs]), torch.cat([getattr(b, name) for _, b in pairs]), ridge)
        for name in ("text_states", "prompt_embeds", "image_embeds")
    ]
    return Bridge(*maps)


def _check_same_records(foreign: Store, right: Store) -> None:
    columns = ["id", "caption"]
    one, other = (store.table().select(columns) for store in (foreign, right))
    if foreign.header.dataset_digest != right.header.dataset_digest or not one.equals(other):
        raise StoreError(f"{foreign.folder}: holds other records than {right.folder}; embed the same dataset twice")
    if not np.array_equal(foreign.lengths, right.lengths):
        raise StoreError(f"{foreign.folder}: other tokens than in {right.folder}; the tokenizers must be the same")


def _ridge(x: Tensor, y: Tensor, ridge: float) -> Tensor:
    """Centred, so that neither the intercept is shrunk nor a large mean makes the penalty larger."""
    x, y = x.double(), y.double()
    centre, target = x.mean(0), y.mean(0)
    x = x - centre
    gram = x.T @ x
    gram.diagonal().add_(ridge * gram.diagonal().mean())
    weights = torch.linalg.solve(gram, x.T @ (y - target))
    return torch.cat([weights, (target - centre @ weights)[None]]).float()


def _apply(weights: Tensor, x: Tensor) -> Tensor:
    return x @ weights[:-1] + weights[-1]


def edge_drop_results(cells: dict[float, pd.DataFrame], settings: StudyParams, baseline: float) -> dict[str, Any]:
    """Means by drop, and paired differences to ``baseline``. A cell has columns seed, split, id and :data:`METRICS`.

    NaN marks prompts that were not decoded; which they are must not depend on the cell (:class:`DataError`).
    """
    if baseline not in cells:
        raise ConfigError(f"study.drops: {baseline:g}, which the others are compared to, is missing; add it")
    rows = []
    for drop, table in sorted(cells.items()):
        scores = {
            _label(group, name): _estimate(table, group, name, settings)
            for group in _WORDS
            for name in ("edge_f1", "concept", "rest")
        }
        rows.append({"drop": drop, **scores})
    decided = [
        {"drop": drop, "figure": _label(group, name), **_difference(table, cells[baseline], group, name, settings)}
        for drop, table in sorted(cells.items())
        if drop != baseline
        for group, name in ((EDGES, "edge_f1"), (HELD_OUT, "concept"))
    ]
    return {
        "title": "How often should edges be dropped in training?",
        "decides": f"paired difference to drop = {baseline:g} over prompts, seeds averaged, bootstrap 95 % interval: "
        + "; ".join(f"drop {item['drop']:g}, {_sentence(item)}" for item in decided),
        "columns": list(rows[0]),
        "rows": rows,
        "differences": decided,
    }


def encoder_results(ways: dict[str, pd.DataFrame], refusal: str, settings: StudyParams) -> dict[str, Any]:
    """Means of each way, paired differences to the first; tables as :func:`edge_drop_results`' cells, without seed."""
    first, *others = ways
    rows = [
        {"encoder": name, **{m: _estimate(table, HELD_OUT, m, settings) for m in ("concept", "rest", "both", "cosine")}}
        for name, table in ways.items()
    ]
    decided = [
        {"encoder": name, "figure": m, **_difference(ways[name], ways[first], HELD_OUT, m, settings)}
        for name in others
        for m in ("concept", "rest")
    ]
    return {
        "title": "What if the encoder is another one?",
        "refused by default": refusal,
        "decides": f"paired difference to {first} over prompts, bootstrap 95 % interval: "
        + "; ".join(f"{item['encoder']}, {_sentence(item)}" for item in decided),
        "columns": list(rows[0]),
        "rows": rows,
        "differences": decided,
    }


def markdown(found: dict[str, Any]) -> str:
    """Results as a Markdown page: title, remarks, and a table of all rows."""
    columns = found["columns"]
    remarks = [(key, text) for key, text in found.items() if isinstance(text, str) and key != "title"]
    lines = [f"# {found['title']}", "", *(f"{key.capitalize()}: {text}.\n" for key, text in remarks)]
    lines += ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(_cell(row[c]) for c in columns) + " |" for row in found["rows"]]
    return "\n".join([*lines, ""])


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _label(group: str, name: str) -> str:
    return f"{name.replace('_f1', ' F1')}, {_WORDS[group]}"


def _over_seeds(table: pd.DataFrame, group: str, name: str) -> pd.Series:
    """Each prompt's mean over seeds, by id; prompts without a score are left out."""
    return table[table.split == group].groupby("id")[name].mean().dropna()


def _estimate(table: pd.DataFrame, group: str, name: str, settings: StudyParams) -> dict[str, Any]:
    values = _over_seeds(table, group, name).to_numpy()
    return _rounded(_known(estimate(values, count=settings.bootstrap, seed=settings.bootstrap_seed), group, name))


def _difference(
    table: pd.DataFrame, baseline: pd.DataFrame, group: str, name: str, settings: StudyParams
) -> dict[str, Any]:
    mine, other = _over_seeds(table, group, name), _over_seeds(baseline, group, name)
    if not mine.index.equals(other.index):
        raise DataError(f"{group}: {name} is known of other prompts than the baseline's; run the study's cells again")
    gap = paired_difference(mine.to_numpy(), other.to_numpy(), count=settings.bootstrap, seed=settings.bootstrap_seed)
    gap = _known(gap, group, name)
    verdict = "more" if gap.low > 0 else "less" if gap.high < 0 else "undecided"
    return {**_rounded(gap), "verdict": verdict}


def _known(value: Estimate | None, group: str, name: str) -> Estimate:
    if value is None:
        raise DataError(f"{group}: no prompt has {name}; run the study's cells again")
    return value


def _rounded(value: Estimate) -> dict[str, Any]:
    return {key: round(part, 4) if isinstance(part, float) else part for key, part in value.to_dict().items()}


def _sentence(item: dict[str, Any]) -> str:
    interval = f"{item['value']:+.3f} [{item['low']:+.3f}, {item['high']:+.3f}]"
    return f"{item['figure']}: {interval}, {item['verdict']}"


def figure(found: dict[str, Any], path: Path) -> None:
    """Edge F1 with edges, and concept with and without them, against the share dropped; writes ``path`` (PNG)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = found["rows"]
    shown = ((EDGES, "edge_f1"), (EDGES, "concept"), (HELD_OUT, "concept"))
    fig, axis = plt.subplots(figsize=(5.6, 3.6))
    for marker, label in zip("os^", (_label(group, name) for group, name in shown), strict=True):
        values = [row[label] for row in rows]
        error = [[v["value"] - v["low"] for v in values], [v["high"] - v["value"] for v in values]]
        axis.errorbar(range(len(rows)), [v["value"] for v in values], error, marker=marker, capsize=3, label=label)
    axis.set_xticks(range(len(rows)), [f"{row['drop']:g}" for row in rows])
    axis.set(xlabel="share of training samples without their edges", ylabel="mean over held-out prompts")
    axis.legend(frameon=False)
    fig.tight_layout()
    fig.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(fig)
