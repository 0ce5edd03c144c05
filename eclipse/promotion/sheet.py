"""The review sheet: one self-contained page, the same as a picture, and the record that promotion reads."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2

from eclipse.files import read_json, sha256, write_json
from eclipse.promotion.differences import outcomes
from eclipse.promotion.page import Review, page
from eclipse.promotion.picture import draw_picture
from eclipse.promotion.words import p_words, signed

SHEET, PICTURE, RECORD = "sheet.html", "sheet.png", "review.json"


def write_review(review: Review, out: Path) -> dict[str, Any]:
    """Write ``sheet.html``, ``sheet.png`` and ``review.json`` into the existing folder ``out``; returns the last one.

    The page names the SHA-256 of ``review.json``, so that whoever signs the page signs that too. Equal reviews give
    equal bytes.
    """
    write_json(out / RECORD, review_record(review))
    context = page(review) | {"record_hash": sha256(out / RECORD)}
    (out / SHEET).write_text(_render(context), encoding="utf-8")
    draw_picture(context, review.pairs()).save(out / PICTURE, optimize=True)
    return dict(read_json(out / RECORD))


def review_record(review: Review) -> dict[str, Any]:
    """review.json: who against whom, the decision, what it was made from, and the key of a blind sheet."""
    champion = review.champion
    opponent: dict[str, Any] = {"version": champion.version, "prior_hash": champion.prior_hash}
    if champion.version is None:
        opponent = {"reference": champion.point}
    mine, theirs = (one.table for one in review.measured)
    found = outcomes(mine, theirs, review.metric)
    return {
        "name": review.name,
        "variant": review.variant,
        "candidate": {"version": review.candidate.version, "prior_hash": review.candidate.prior_hash},
        "champion": opponent,
        "decision": asdict(review.decision),
        "differences": {"won": len(found.won), "lost": len(found.lost), "equal": found.equal, "p": found.p},
        "made_from": review.made_from,
        "shown": [review.table.ids[i] for i in review.shown],
        "blind": None if review.blind is None else asdict(review.blind),
    }


def _render(context: dict[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("eclipse.promotion", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(signed=lambda value: signed(value, 3), p=p_words)
    return environment.get_template("sheet.html.j2").render(context)
