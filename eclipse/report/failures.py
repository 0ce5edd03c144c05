"""Failures chosen by a rule that is printed beside them, never by taste."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CATEGORIES = ("colour", "shape", "texture", "spatial", "count", "background", "binding")
JUDGES = ("composition", "r1_all", "r1")


@dataclass(frozen=True)
class Failure:
    """One failed prompt; ``index`` is its place in the split's order of evaluation."""

    index: int
    id: str
    caption: str


@dataclass(frozen=True)
class Group:
    """All prompts that failed in the same way: ``total`` of them, the first few by id in ``shown``."""

    reason: str
    total: int
    shown: tuple[Failure, ...]


@dataclass(frozen=True)
class Failures:
    """``wrong`` of ``judged`` prompts failed ``judge``; ``rule`` says how ``groups`` were chosen."""

    judge: str
    rule: str
    judged: int
    wrong: int
    groups: tuple[Group, ...]


def choose(table: Mapping[str, Sequence[Any]], *, split: str, each: int, pictures: int) -> Failures | None:
    """Group the prompts of one prior's per-prompt ``table`` that are wrong by the first judge it has.

    Args:
        table: columns ``id``, ``caption`` and 0/1 scores (NaN = not judged), in order of evaluation.
        split: the split's name, for the rule's wording.
        each: failures shown in each group.
        pictures: how many prompts, from the first, have a decoded picture; only those can be shown if any has one.

    Returns:
        Largest group first (equal sizes by name); None where no judge applies.
    """
    judge = next((name for name in JUDGES if name in table and any(math.isfinite(v) for v in table[name])), None)
    if judge is None:
        return None
    judged = [i for i, score in enumerate(table[judge]) if math.isfinite(score)]
    wrong = [i for i in judged if table[judge][i] < 1]
    groups: dict[str, list[int]] = {}
    for i in sorted(wrong, key=lambda i: str(table["id"][i])):
        groups.setdefault(_reason(table, i, judge), []).append(i)
    made = [_group(reason, members, table, each, pictures) for reason, members in groups.items()]
    made.sort(key=lambda group: (-group.total, group.reason))
    return Failures(judge, _rule(judge, split, each, pictures), len(judged), len(wrong), tuple(made))


def _group(reason: str, members: list[int], table: Mapping[str, Sequence[Any]], each: int, pictures: int) -> Group:
    visible = [i for i in members if i < pictures or not pictures]
    shown = tuple(Failure(i, str(table["id"][i]), str(table["caption"][i])) for i in visible[:each])
    return Group(reason, len(members), shown)


def _reason(table: Mapping[str, Sequence[Any]], index: int, judge: str) -> str:
    failed = [name for name in CATEGORIES if name in table and table[name][index] < 1]  # NaN (not asked for) is not < 1
    return " + ".join(failed) or "retrieval"


def _rule(judge: str, split: str, each: int, pictures: int) -> str:
    words = {
        "composition": "at least one attribute that the caption names is wrong",
        "r1_all": "another picture of the dataset is closer",
        "r1": "another picture of the split is closer",
    }
    kept = f" among the split's first {pictures} prompts, whose pictures are kept" if pictures else ""
    return (
        f"All prompts of {split} that the selected prior fails, where failing means: "
        f"{words.get(judge, f'{judge} is judged wrong')}. They are grouped by the "
        "categories that were wrong, largest group first. "
        f"Shown are the first {each} of each group by id{kept}; the counts are over all judged prompts."
    )
