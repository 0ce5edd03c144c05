"""What a review sheet shows: words, places on the interval plot, and pictures as data URIs."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eclipse.data.manifest import open_split
from eclipse.data.subjects import subjects_of
from eclipse.promotion.blind import CANDIDATE, BlindKey
from eclipse.promotion.compare import Side, Variant
from eclipse.promotion.differences import Failures, Outcomes, failures, is_binary, outcomes
from eclipse.promotion.gate import Decision, Table, Verdict
from eclipse.promotion.measured import Measured
from eclipse.report.results import heading, label
from eclipse.report.sheets import png
from eclipse.report.sources import inline

EACH, GROUPS = 4, 6
"""Prompts of a group, and groups, that are shown with their pictures."""
_REFERENCE = {
    "text": "no prior: the caption's own embedding z_y",
    "mean": "no prior of its kind: mean of the subjects' embeddings and the text-only prediction",
}
_WIDEST = 160  # px of a picture on the page: decoders of 512 px would make it too large to send round


@dataclass(frozen=True)
class Review:
    """Everything that a sheet shows. ``shown`` are the rows laid side by side; ``blind`` hides whose picture is whose.

    ``made_from`` are the digests that a later change is told by (:meth:`Ground.facts` and the parameters').
    """

    name: str
    variant: Variant
    candidate: Side
    champion: Side
    measured: tuple[Measured, Measured]
    metric: str
    categories: tuple[str, ...]
    decision: Decision
    shown: tuple[int, ...]
    seed: int
    made_from: dict[str, str]
    dataset: Path
    blind: BlindKey | None = None

    @property
    def roles(self) -> tuple[str, str]:
        """What the two are called."""
        return ("candidate", "reference" if self.champion.version is None else "champion")

    @property
    def table(self) -> Table:
        """The candidate's scores."""
        return self.measured[0].table

    def pairs(self) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        """The pictures of the shown prompts in the order of the page: candidate and champion, or A and B."""
        made = []
        for place, i in enumerate(self.shown):
            pair = (self.measured[0].images[i], self.measured[1].images[i])
            made.append(pair if self.blind is None or self.blind.a[place] == CANDIDATE else pair[::-1])
        return made


def page(review: Review) -> dict[str, Any]:
    """What the template and the picture show, in words and data URIs."""
    candidate, champion = (one.table for one in review.measured)
    found = outcomes(candidate, champion, review.metric)
    failed = failures(candidate, review.metric, review.categories)
    hidden = set(review.shown) if review.blind else set()
    lists = {"won": _first(found.won, hidden), "lost": _first(found.lost, hidden)}
    groups = [(name, rows, _first(rows, hidden)) for name, rows in failed.groups]
    rows = {*review.shown, *lists["won"], *lists["lost"], *(i for _, _, first in groups for i in first)}
    subjects = _subjects(review, rows)
    decision = review.decision
    return {
        "name": review.name,
        "sides": [
            _side(role, side) for role, side in zip(review.roles, (review.candidate, review.champion), strict=True)
        ],
        "caveats": _caveats(review),
        "decision": decision,
        "rows": [_row(one, decision) for one in (decision.primary, *decision.by_split, *decision.categories)],
        "choice": _choice(review),
        "pairs": [_pair(review, i, subjects, place) for place, i in enumerate(review.shown)],
        "nonce": review.blind.nonce if review.blind else None,
        "failures": _failures(review, failed, groups, subjects),
        "differences": _differences(review, found, lists, subjects),
        "made_from": review.made_from,
        "variant": review.variant,
    }


def _first(rows: Sequence[int], hidden: set[int]) -> list[int]:
    return [i for i in rows if i not in hidden][:EACH]


def _side(role: str, side: Side) -> dict[str, Any]:
    version = "no champion yet" if side.version is None else f"version {side.version}"
    words = _REFERENCE[side.point] if side.version is None else label(side.point)
    return {"role": role, "version": version, "label": words, "prior_hash": side.prior_hash}


def _caveats(review: Review) -> list[str]:
    """What makes the comparison less than fair, or less than it seems."""
    told = []
    for role, side in zip(review.roles, (review.candidate, review.champion), strict=True):
        if side.dataset is not None and side.dataset != review.made_from["dataset_digest"]:
            told.append(f"The {role} was trained on other data: prompts that are compared here may have been among it.")
    if review.variant == "lambda-eclipse":
        told.append("Subjects are given, edges are not.")
    return told


def _row(one: Verdict, decision: Decision) -> dict[str, Any]:
    """A line of the table; places on the interval plot are percentages of its width."""
    everything = (decision.primary, *decision.by_split, *decision.categories)
    reach = max(0.02, *(max(abs(v.low), abs(v.high), v.margin) for v in everything)) * 1.05
    places = {"low": one.low, "high": one.high, "difference": one.difference, "margin": -one.margin}
    role = "deciding" if one is decision.primary else "category" if one in decision.categories else "split"
    return {
        "verdict": one,
        "title": one.splits if role == "split" else one.metric,
        "meaning": heading(one.metric).text,
        "role": role,
        "at": {name: 50 + 50 * value / reach for name, value in places.items()},
    }


def _choice(review: Review) -> str:
    splits = " and ".join(dict.fromkeys(review.table.splits))
    return (
        f"{len(review.shown)} of the {len(review.table.ids)} prompts of {splits} that both drew, chosen at random "
        f"(promote.seed {review.seed}), not by anybody's taste. Both pictures of a prompt have the same noise seeds."
    )


def _right(table: Table, metric: str, i: int) -> bool | None:
    """Whether the prompt is right, where ``metric`` says right or wrong and nothing between; else None."""
    scores = table.scores[metric]
    return bool(scores[i]) if is_binary(scores) and not np.isnan(scores[i]) else None


def _cells(review: Review, i: int) -> list[dict[str, Any]]:
    """The candidate's and the champion's picture of prompt ``i``."""
    return [
        {"role": role, "uri": _uri(one.images[i]), "right": _right(one.table, review.metric, i)}
        for role, one in zip(review.roles, review.measured, strict=True)
    ]


def _pair(review: Review, i: int, subjects: Mapping[int, Any], place: int) -> dict[str, Any]:
    cells = _cells(review, i)
    if review.blind:
        order = cells if review.blind.a[place] == CANDIDATE else cells[::-1]
        cells = [{"role": letter, "uri": cell["uri"], "right": None} for letter, cell in zip("AB", order, strict=True)]
    return _prompt(review, i, cells, subjects)


def _prompt(review: Review, i: int, cells: list[dict[str, Any]], subjects: Mapping[int, Any]) -> dict[str, Any]:
    table = review.table
    given = [{"word": word, "uri": _uri(picture)} for word, picture in subjects.get(i, ())]
    return {
        "id": table.ids[i],
        "split": table.splits[i],
        "caption": table.captions[i],
        "cells": cells,
        "subjects": given,
    }


def _failures(
    review: Review,
    failed: Failures,
    groups: Sequence[tuple[str, Sequence[int], list[int]]],
    subjects: Mapping[int, Any],
) -> dict[str, Any]:
    made = [
        {"name": name, "total": len(rows), "prompts": [_prompt(review, i, _cells(review, i), subjects) for i in first]}
        for name, rows, first in groups[:GROUPS]
    ]
    others = sum(len(rows) for _, rows, _ in groups[GROUPS:])
    return {"rule": failed.rule, "total": failed.total, "judged": failed.judged, "groups": made, "others": others}


def _differences(
    review: Review, found: Outcomes, lists: Mapping[str, list[int]], subjects: Mapping[int, Any]
) -> dict[str, Any]:
    totals = {"won": len(found.won), "lost": len(found.lost)}
    made = [
        {
            "name": name,
            "total": totals[name],
            "prompts": [_prompt(review, i, _cells(review, i), subjects) for i in rows],
        }
        for name, rows in lists.items()
    ]
    return {"metric": review.metric, "equal": found.equal, "p": found.p, "lists": made, **totals}


def _subjects(review: Review, rows: set[int]) -> dict[int, list[tuple[str, NDArray[np.uint8]]]]:
    """Noun and picture of every subject of the prompts in ``rows``; empty for priors that take none."""
    if review.variant != "lambda-eclipse":
        return {}
    table, found = review.table, {}
    wanted = {(table.splits[i], table.ids[i]): i for i in rows}
    for split in dict.fromkeys(table.splits[i] for i in rows):
        for record in open_split(review.dataset, split):
            i = wanted.get((split, record.id))
            if i is not None:
                found[i] = [(subject.word, _decoded(content)) for subject, content in subjects_of(record)]
    return found


def _uri(image: NDArray[np.uint8]) -> str:
    if max(image.shape[:2]) > _WIDEST:
        shown = Image.fromarray(image)
        shown.thumbnail((_WIDEST, _WIDEST), Image.Resampling.LANCZOS)
        image = np.asarray(shown)
    return inline(png(image))


def _decoded(content: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
