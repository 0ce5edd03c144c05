"""The gate: paired statistics of candidate against champion, and the written rule that decides. docs/review.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eclipse.config.promote import PromoteParams
from eclipse.errors import ConfigError, DataError
from eclipse.evaluate.bootstrap import bootstrap_means
from eclipse.promotion.words import decision_reasons, rule_words

Ruling = Literal["non-inferior", "superior", "inferior", "inconclusive"]

POWER = 0.8
_ROUNDING = 1e-9  # a mean of scores that lies on the margin lies on it in floating point too


@dataclass(frozen=True)
class Table:
    """Per-prompt scores of one prior. Row i is prompt ``ids[i]`` of ``splits[i]``.

    ``scores`` is float64 [N] by metric, NaN where a metric is not defined on a prompt; more is better in each.
    """

    splits: tuple[str, ...]
    ids: tuple[str, ...]
    captions: tuple[str, ...]
    scores: Mapping[str, NDArray[np.float64]]

    def measured(self) -> list[str]:
        """Metrics that are defined on at least one prompt, by name."""
        return sorted(name for name, values in self.scores.items() if not np.isnan(values).all())


@dataclass(frozen=True)
class Verdict:
    """What is known of candidate − champion in one metric.

    ``low`` and ``high`` are one-sided bounds, each at the rule's confidence (together a 90 % interval for 95 %).
    ``p`` is the one-sided p-value of "worse by ``margin`` or more", ``p_inferior`` that of "not worse by more than
    ``margin``", ``p_superior`` that of "not better"; over categories all three are Holm-adjusted, the bounds are not.
    """

    metric: str
    splits: str
    n: int
    difference: float
    low: float
    high: float
    p: float
    margin: float
    mde: float
    verdict: Ruling
    candidate: float
    champion: float
    p_inferior: float
    p_superior: float


@dataclass(frozen=True)
class Decision:
    """Whether the rule lets the candidate pass, and why; ``by_split`` is told and decides nothing."""

    passed: bool
    reasons: tuple[str, ...]
    primary: Verdict
    categories: tuple[Verdict, ...]
    rule: str
    by_split: tuple[Verdict, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Statistics of paired differences before anything is ruled on: see :func:`compare_scores`."""

    n: int
    candidate: float
    champion: float
    difference: float
    low: float
    high: float
    mde: float
    p: float
    p_inferior: float
    p_superior: float


def decide(candidate: Table, champion: Table, rule: PromoteParams, metric: str) -> Decision:
    """Apply ``rule`` to two priors that drew the same prompts, ``metric`` deciding.

    Raises :class:`DataError` when the tables are of other prompts, :class:`ConfigError` when ``metric`` was not
    measured or the resamples are too few for the confidence asked for.
    """
    if (candidate.splits, candidate.ids) != (champion.splits, champion.ids):
        raise DataError("review: candidate and champion were measured on other prompts; delete the review's cache")
    check_metric(candidate, metric)
    check_metric(champion, metric)
    common = set(candidate.measured()) & set(champion.measured())
    names = [name for name in rule.categories if name in common and name != metric]
    _check_resamples(rule, max(len(names), 1))
    everything = np.ones(len(candidate.ids), bool)

    def of(name: str, margin: float, rows: NDArray[np.bool_] = everything) -> Comparison:
        return compare_scores(candidate.scores[name][rows], champion.scores[name][rows], rule, margin)

    alpha, splits = _alpha(rule), tuple(dict.fromkeys(candidate.splits))
    pooled = " + ".join(splits)
    primary = _ruled(metric, pooled, of(metric, rule.margin), rule.margin, alpha)
    found = _holm_each([of(name, rule.category_margin) for name in names])
    categories = tuple(
        _ruled(name, pooled, one, rule.category_margin, alpha) for name, one in zip(names, found, strict=True)
    )
    rows = {name: np.array([split == name for split in candidate.splits]) for name in splits}
    by_split = tuple(
        _ruled(metric, name, of(metric, rule.margin, here), rule.margin, alpha)
        for name, here in rows.items()
        if len(splits) > 1 and not np.isnan(candidate.scores[metric][here]).all()
    )
    passed = _passes(primary, categories, rule)
    reasons = decision_reasons(primary, categories, rule)
    return Decision(passed, reasons, primary, categories, rule_words(rule, metric, names, splits), by_split)


def compare_scores(
    candidate: NDArray[np.float64], champion: NDArray[np.float64], rule: PromoteParams, margin: float
) -> Comparison:
    """Paired percentile bootstrap over prompts of d = ``candidate`` − ``champion`` (both [N]; NaN = left out).

    Each bound is taken as if one more prompt had spoken against what it is to show: the resampled d has a prompt more,
    of −max|d| for the lower bound and +max|d| for the upper one (±1 where no prompt differs: scores lie in [0, 1]). A
    bootstrap alone never draws an outcome that it has not seen, and would take ten equal pictures for a proof.

    With B resamples the lower bound is their ⌊α(B + 1)⌋-th smallest, and p = (1 + #{resamples ≤ −margin}) / (B + 1), so
    that p ≤ α exactly where the bound lies above −margin. Swapping the two swaps the bounds and their signs.

    The minimum detectable effect is (z(confidence) + z(0.8)) · SE + max|d| / (n + 1): a prior that is so much better
    than what a test refutes passes it in 80 % of cases. SE = sd(d₁ … d_n, −max|d|, max|d|) / √(n + 2) is the paired
    standard error, of two prompts more so that it is never 0; the last term is what the prompt above takes away.
    """
    if not np.array_equal(np.isnan(candidate), np.isnan(champion)):
        raise DataError("review: a metric is defined on other prompts for the candidate than for the champion")
    asked = ~np.isnan(candidate)
    candidate, champion = candidate[asked], champion[asked]
    d = candidate - champion
    count = rule.bootstrap
    worst = float(np.abs(d).max()) or 1.0
    below = bootstrap_means(np.append(d, -worst), count, rule.seed)
    above = bootstrap_means(np.append(d, worst), count, rule.seed)
    rank = int(_alpha(rule) * (count + 1) + _ROUNDING)

    def share(hits: NDArray[np.bool_]) -> float:
        return (1 + int(hits.sum())) / (count + 1)

    error = float(np.std(np.append(d, [-worst, worst]), ddof=1)) / np.sqrt(len(d) + 2)
    normal = NormalDist()
    return Comparison(
        n=len(d),
        candidate=float(candidate.mean()),
        champion=float(champion.mean()),
        difference=float(d.mean()),
        low=float(np.partition(below, rank - 1)[rank - 1]),
        high=float(np.partition(above, count - rank)[count - rank]),
        mde=float((normal.inv_cdf(rule.confidence) + normal.inv_cdf(POWER)) * error + worst / (len(d) + 1)),
        p=share(below <= -margin + _ROUNDING),
        p_inferior=share(above >= -margin - _ROUNDING),
        p_superior=share(below <= _ROUNDING),
    )


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: rejecting those ≤ α keeps the chance of any false rejection at α or below."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = largest
    return adjusted


def check_metric(table: Table, metric: str) -> None:
    """:class:`ConfigError` naming what there is where ``metric`` was not measured."""
    if metric not in table.measured():
        raise ConfigError(
            f"promote.metric {metric}: not measured on these prompts (the oracle's metrics need frozen/oracle and "
            f"records with scenes); there are {', '.join(table.measured())}"
        )


def _holm_each(found: Sequence[Comparison]) -> list[Comparison]:
    """The three families of claims (not worse, worse, better), each adjusted over all categories."""
    columns: dict[str, list[float]] = {
        name: holm([getattr(one, name) for one in found]) for name in ("p", "p_inferior", "p_superior")
    }
    return [
        Comparison(**{**one.__dict__, **{name: values[i] for name, values in columns.items()}})
        for i, one in enumerate(found)
    ]


def _ruled(metric: str, splits: str, one: Comparison, margin: float, alpha: float) -> Verdict:
    facts: dict[str, Any] = dict(one.__dict__)
    if one.p <= alpha:
        ruling: Ruling = "superior" if one.p_superior <= alpha else "non-inferior"
    else:
        ruling = "inferior" if one.p_inferior <= alpha else "inconclusive"
    return Verdict(metric=metric, splits=splits, margin=margin, verdict=ruling, **facts)


def _passes(primary: Verdict, categories: Sequence[Verdict], rule: PromoteParams) -> bool:
    wanted = ("superior",) if rule.require == "superior" else ("non-inferior", "superior")
    refused = ("inferior",) if rule.inconclusive == "allow" else ("inferior", "inconclusive")
    return primary.verdict in wanted and not any(one.verdict in refused for one in categories)


def _alpha(rule: PromoteParams) -> float:
    return round(1 - rule.confidence, 12)  # 1 − 0.9 is a little less than 0.1, which a p-value of 0.1 should equal


def _check_resamples(rule: PromoteParams, claims: int) -> None:
    least = claims / _alpha(rule) - 1
    if rule.bootstrap + _ROUNDING < least:
        raise ConfigError(
            f"promote.bootstrap {rule.bootstrap}: too few for a confidence of {rule.confidence:g} over {claims} "
            f"categories; give {int(np.ceil(least - _ROUNDING))} or more"
        )
