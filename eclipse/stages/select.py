"""Stage ``select``: choose one prior by the written rule, on validation splits only, and write its model card."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eclipse.config.params import Params, SelectParams
from eclipse.errors import ConfigError, DataError
from eclipse.evaluate.card import model_card
from eclipse.evaluate.summary import has_edges, lam, read_evaluation, takes_subjects
from eclipse.files import atomic_folder, read_json, write_json

LOWER_IS_BETTER = ("fid", "manifold", "ccd_concept", "ccd_composition", "copy_paste")
SUBJECT_METRIC = "both"
_ROUNDING = 1e-9  # 0.60 and 0.59 differ by 0.01, also in floating point
WEIGHTS = ("config.json", "diffusion_pytorch_model.safetensors", "training.json")


@dataclass(frozen=True)
class Candidate:
    """A point as the rule sees it: means over seeds of two validation figures, and what became of it."""

    point: str
    lam: float | None
    metric: float
    cosine: float
    verdict: str = ""


Runs = dict[str, dict[int, dict[str, dict[str, Any]]]]
"""point → seed → split → metric → entry"""


@dataclass(frozen=True)
class Choice:
    """What a choice is made from: validation figures, the rule and its words, and the points that it sees."""

    runs: Runs
    split: str
    rule: SelectParams
    candidates: list[Candidate]
    text: str


def run(params: Params, *, evaluations: Path, priors: Path, out: Path, metrics: Path) -> dict[str, Any]:
    """Apply the rule to every point and seed of ``params.sweep``; copy the chosen prior to ``out`` with its card.

    Raises :class:`DataError` where an evaluation or prior of the sweep is missing (a choice among half of the sweep
    would look like a choice), :class:`ConfigError` for a metric that cannot be maximised or was not measured.
    """
    rule = params.select
    runs = validation(evaluations, params.sweep.points, params.sweep.seeds)
    split = held_out_split(runs)
    _check_metric(rule.metric, runs, split)
    candidates = [_candidate(point, lam(point), runs[point], rule.metric, split) for point in runs]
    if all(c.lam is None for c in candidates):
        raise ConfigError("sweep.points: nothing to select from; add projection or eclipse-λ")
    return _choose(params, Choice(runs, split, rule, candidates, rule_text(rule, split)), priors, out, metrics)


def subjects(params: Params, *, evaluations: Path, priors: Path, out: Path, metrics: Path) -> dict[str, Any]:
    """Choose a λ-ECLIPSE prior among ``params.subjects``: the rule of :func:`run` with ``both`` as its metric.

    Where no oracle judged pictures the metric is ``cosine``. The text-only baseline is a yardstick. Of ties the priors
    that take edges stay, because they can do all that the others do. Raises what :func:`run` raises.
    """
    runs = validation(evaluations, params.subjects.points, params.subjects.seeds)
    if not any(map(takes_subjects, runs)):
        raise ConfigError("subjects.points: nothing to select from; add lambda-λ or lambda-λ-edges")
    split = held_out_split(runs)
    metric = SUBJECT_METRIC if SUBJECT_METRIC in _measured(runs, split) else "cosine"
    rule = params.select.model_copy(update={"metric": metric})
    _check_metric(metric, runs, split)
    candidates = [
        _candidate(point, lam(point) if takes_subjects(point) else None, runs[point], metric, split) for point in runs
    ]
    return _choose(params, Choice(runs, split, rule, candidates, subject_rule_text(rule, split)), priors, out, metrics)


def _choose(params: Params, choice: Choice, priors: Path, out: Path, metrics: Path) -> dict[str, Any]:
    metric, split = choice.rule.metric, choice.split
    candidates = judge_candidates(choice.candidates, choice.rule)
    chosen = next(c for c in candidates if c.verdict == "chosen")
    by_seed = choice.runs[chosen.point]
    seed = best_seed(by_seed, metric, split)
    selection = {
        "point": chosen.point,
        "seed": seed,
        "rule": choice.text,
        "split": split,
        "metric": metric,
        "value": chosen.metric,
        "candidates": [asdict(c) for c in candidates],
        "seeds": {str(s): _value(e, split, metric) for s, e in by_seed.items()},
    }
    folder = priors / f"{chosen.point}-{seed}"
    lineage = read_json(folder / "training.json")
    selection["prior_hash"] = lineage.get("prior_hash")
    _write(out, folder, selection, model_card(selection, lineage, by_seed[seed], params))
    write_json(metrics, selection)
    return selection


def validation(evaluations: Path, points: tuple[str, ...], seeds: tuple[int, ...]) -> Runs:
    """point → seed → split → metric → entry of the validation splits; what test splits say is dropped on reading."""
    runs: Runs = {}
    for point in points:
        for seed in seeds:
            splits = read_evaluation(evaluations / f"{point}-{seed}.json")["splits"]
            kept = {name: metrics for name, metrics in splits.items() if name.startswith("val_")}
            runs.setdefault(point, {})[seed] = kept
    return runs


def held_out_split(runs: Runs) -> str:
    """``val_held_out``; ``val_seen`` where the data holds nothing out (and the rule then says so)."""
    every = [splits for by_seed in runs.values() for splits in by_seed.values()]
    for name in ("val_held_out", "val_seen"):
        if all(name in splits for splits in every):
            return name
    raise DataError("evaluations: no validation split is common to all points; run the evaluate stages again")


def judge_candidates(candidates: list[Candidate], rule: SelectParams) -> list[Candidate]:
    """Give each candidate its verdict; exactly one is ``chosen``.

    Baselines (without λ) are yardsticks and cannot be chosen. Of the others those whose cosine is within the margin of
    the best one's stay; of these those whose metric is within the tie of the best stay; of these those that take edges,
    if any do; of these the smallest λ.
    """
    selectable = [c for c in candidates if c.lam is not None]
    floor = max(c.cosine for c in selectable) - rule.cosine_margin - _ROUNDING
    admitted = [c for c in selectable if c.cosine >= floor]
    level = max(c.metric for c in admitted) - rule.tie - _ROUNDING
    tied = [c for c in admitted if c.metric >= level]
    chosen = min(tied, key=lambda c: (not has_edges(c.point), c.lam, c.point))

    def verdict(c: Candidate) -> str:
        if c.lam is None:
            return "baseline, not selectable"
        if c.cosine < floor:
            return f"out: cosine below {floor:.4f}"
        if c.metric < level:
            return f"{rule.metric} below {level:.4f}"
        if c == chosen:
            return "chosen"
        alike = has_edges(c.point) == has_edges(chosen.point)
        return f"tie, but λ above {chosen.lam:g}" if alike else "tie, but takes no edges"

    return [Candidate(c.point, c.lam, c.metric, c.cosine, verdict(c)) for c in candidates]


def best_seed(by_seed: dict[int, dict[str, dict[str, Any]]], metric: str, split: str) -> int:
    """The seed with the best ``metric``; the smaller one of equals."""
    return min(by_seed, key=lambda seed: (-_value(by_seed[seed], split, metric), seed))


def rule_text(rule: SelectParams, split: str) -> str:
    """The rule in words, with its numbers."""
    return (
        f"Maximise {rule.metric} on {split} (mean over seeds), among projection and eclipse points whose image cosine "
        f"on val_seen (mean over seeds) is at most {rule.cosine_margin:g} below the best one's; differences up to "
        f"{rule.tie:g} are ties, which the smallest λ wins; within the point the seed with the best {rule.metric}. "
        "Test splits are not read; the diffusion baseline is a yardstick and not selectable." + _seen_decide(split)
    )


def subject_rule_text(rule: SelectParams, split: str) -> str:
    """The same rule for λ-ECLIPSE points."""
    right = "the share of prompts whose subjects and whose rest are all right (both)"
    figure = right if rule.metric == SUBJECT_METRIC else rule.metric
    return (
        f"Maximise {figure} on {split} (mean over seeds), among λ-ECLIPSE points whose image cosine on val_seen (mean "
        f"over seeds) is at most {rule.cosine_margin:g} below the best one's; differences up to {rule.tie:g} are ties, "
        "which a prior that takes edges wins (it can do more, and edges need not be given), then the smallest λ; in "
        f"the point the seed with the best {rule.metric}. No edges are given in this measurement. Test splits are not "
        "read; the text-only baseline is a yardstick and not selectable." + _seen_decide(split)
    )


def _seen_decide(split: str) -> str:
    return "" if split == "val_held_out" else " This data holds nothing out, so seen captions decide."


def _write(out: Path, folder: Path, selection: dict[str, Any], card: str) -> None:
    with atomic_folder(out) as beside:
        for name in WEIGHTS:
            if not (folder / name).is_file():
                raise DataError(f"{folder / name}: no such file; run the train stage of {folder.name} again")
            shutil.copyfile(folder / name, beside / name)
        write_json(beside / "selection.json", selection)
        (beside / "README.md").write_text(card, encoding="utf-8")


def _candidate(
    point: str, lambda_: float | None, by_seed: dict[int, dict[str, dict[str, Any]]], metric: str, split: str
) -> Candidate:
    def mean(name: str, where: str) -> float:
        return sum(_value(splits, where, name) for splits in by_seed.values()) / len(by_seed)

    return Candidate(point, lambda_, mean(metric, split), mean("cosine", "val_seen"))


def _check_metric(metric: str, runs: Runs, split: str) -> None:
    if metric in LOWER_IS_BETTER:
        raise ConfigError(f"select.metric {metric}: less is better there; choose one where more is")
    common = _measured(runs, split)
    if metric not in common:
        usable = ", ".join(sorted(common - set(LOWER_IS_BETTER)))
        raise ConfigError(f"select.metric {metric}: not on {split} (without an oracle take r1); there are {usable}")


def _measured(runs: Runs, split: str) -> set[str]:
    """The metrics that every run has on ``split``."""
    return set.intersection(*(set(splits[split]) for by_seed in runs.values() for splits in by_seed.values()))


def _value(splits: dict[str, dict[str, Any]], split: str, metric: str) -> float:
    try:
        return float(splits[split][metric]["value"])
    except KeyError as error:
        raise DataError(f"evaluations: {split} {metric} lacks {error}; run the evaluate stages again") from None
