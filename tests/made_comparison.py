"""A finished comparison of made-up priors, as the review sheet is given it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eclipse.config.promote import PromoteParams
from eclipse.promotion.blind import BlindKey
from eclipse.promotion.compare import Side
from eclipse.promotion.differences import choose_prompts
from eclipse.promotion.gate import Table, decide
from eclipse.promotion.measured import Measured
from eclipse.promotion.page import Review

RULE = PromoteParams(bootstrap=1000, categories=("colour", "shape"), sheet_prompts=6)
SIDES = (
    Side("eclipse-0.2", Path("a"), "a" * 64, "3", "e" * 64, "d" * 64),
    Side("eclipse-1.0", Path("b"), "b" * 64, "2", "e" * 64, "f" * 64),
)


def made_measured(seed: int, right: float, prompts: int = 40) -> Measured:
    """Random scores, right in the given share, and pictures of one colour each: prompt i of ``seed`` has its own."""
    rng = np.random.default_rng(seed)
    colour, shape = (rng.random((2, prompts)) < right).astype(float)
    splits = tuple("test_seen" if i < prompts // 2 else "test_held_out" for i in range(prompts))
    captions = tuple(f"a <b>thing</b> no. {i}" for i in range(prompts))
    scores = {"colour": colour, "shape": shape, "composition": colour * shape, "cosine": rng.random(prompts)}
    images = np.zeros((prompts, 8, 8, 3), np.uint8)
    images[..., 0], images[..., 1] = np.arange(prompts)[:, None, None], 200 + seed
    return Measured(Table(splits, tuple(f"p{i:02d}" for i in range(prompts)), captions, scores), images)


def made_review(
    *, blind: bool = False, metric: str = "composition", champion: Side = SIDES[1], **changes: Any
) -> Review:
    """Version 3 against version 2 over forty prompts."""
    both = (made_measured(0, 0.9), made_measured(1, 0.7))
    shown = choose_prompts(40, RULE.sheet_prompts, RULE.seed)
    given: dict[str, Any] = {
        "name": "eclipse-prior-eclipse-mini",
        "variant": "eclipse",
        "candidate": SIDES[0],
        "champion": champion,
        "measured": both,
        "metric": metric,
        "categories": RULE.categories,
        "decision": decide(both[0].table, both[1].table, RULE, metric),
        "shown": shown,
        "seed": RULE.seed,
        "made_from": {"store_hash": "1" * 64, "dataset_digest": "d" * 64},
        "dataset": Path("none"),
        "blind": BlindKey.make([both[0].table.ids[i] for i in shown], "secret") if blind else None,
    }
    return Review(**{**given, **changes})
