"""Where the two differ and where the candidate fails, prompt by prompt, and which prompts a person is shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eclipse.promotion.gate import Table


@dataclass(frozen=True)
class Outcomes:
    """Rows in which the candidate scores more (``won``) or less (``lost``) than the champion, in order.

    ``equal`` counts the others; ``p`` is the two-sided exact sign test (for 0/1 scores: McNemar's).
    """

    won: tuple[int, ...]
    lost: tuple[int, ...]
    equal: int
    p: float


@dataclass(frozen=True)
class Failures:
    """Rows that the candidate fails, grouped; ``rule`` says what failing means and how they are ordered."""

    rule: str
    total: int
    judged: int
    groups: tuple[tuple[str, tuple[int, ...]], ...]


def outcomes(candidate: Table, champion: Table, metric: str) -> Outcomes:
    """Compare two tables of the same prompts in ``metric``; prompts on which it is not defined are left out."""
    gap = candidate.scores[metric] - champion.scores[metric]
    won, lost = (tuple(int(i) for i in np.flatnonzero(rows)) for rows in (gap > 0, gap < 0))
    return Outcomes(won, lost, int((gap == 0).sum()), sign_test(len(won), len(lost)))


def sign_test(won: int, lost: int) -> float:
    """Two-sided exact p-value of ``won`` against ``lost`` under an even chance; 1 where nothing differs."""
    n = won + lost
    tail = sum(math.comb(n, k) for k in range(min(won, lost) + 1)) / 2**n
    return min(1.0, 2 * tail)


def is_binary(scores: NDArray[np.float64]) -> bool:
    """Whether all that is not NaN is right (1) or wrong (0), and nothing between."""
    return bool(np.isin(scores[~np.isnan(scores)], (0.0, 1.0)).all())


def choose_prompts(total: int, count: int, seed: int) -> tuple[int, ...]:
    """``count`` of ``total`` rows (all, if there are no more) at random by ``seed``, in their order."""
    drawn = np.random.default_rng([seed, total]).permutation(total)[:count]
    return tuple(int(i) for i in np.sort(drawn))


def failures(table: Table, metric: str, categories: Sequence[str], worst: int = 12) -> Failures:
    """The candidate's failures by rule. Where ``metric`` is right or wrong: all that are wrong, by what was wrong.

    Groups are named by the ``categories`` that are below 1, largest group first, rows in a group by id. Of other
    metrics the ``worst`` lowest scores.
    """
    scores = table.scores[metric]
    judged = np.flatnonzero(~np.isnan(scores))
    if not is_binary(scores):
        lowest = tuple(int(i) for i in sorted(judged, key=lambda i: (scores[i], table.ids[i]))[:worst])
        rule = f"The {len(lowest)} prompts in which the candidate's {metric} is lowest, lowest first."
        return Failures(rule, len(lowest), len(judged), (("lowest", lowest),))
    wrong = sorted((int(i) for i in judged if scores[i] < 1), key=lambda i: table.ids[i])
    groups: dict[str, list[int]] = {}
    for i in wrong:
        reasons = [name for name in categories if name in table.scores and table.scores[name][i] < 1]
        groups.setdefault(" + ".join(reasons) or "other", []).append(i)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    rule = (
        f"All prompts whose {metric} is wrong, grouped by the categories that were wrong, largest group first; shown "
        "are the first of each group by id, counted are all."
    )
    return Failures(rule, len(wrong), len(judged), tuple((name, tuple(rows)) for name, rows in ordered))
