"""A review: find the two, measure both, decide by the rule, and put the sheet beside the version."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eclipse.config.params import Params
from eclipse.embeddings.header import read_header
from eclipse.errors import CheckpointError, EclipseError
from eclipse.files import atomic_folder, sha256
from eclipse.promotion.blind import BlindKey
from eclipse.promotion.compare import Ground, Side, check_encoder, measure, params_digest, rule_of
from eclipse.promotion.differences import choose_prompts
from eclipse.promotion.gate import decide
from eclipse.promotion.page import Review
from eclipse.promotion.sheet import PICTURE, RECORD, SHEET, write_review
from eclipse.promotion.sign import REVIEW_FOLDER, SHEET_TAG
from eclipse.releases.store import Releases
from eclipse.tracking.registry import CANDIDATE, PRIOR_HASH, Registry, Version, model_name


@dataclass(frozen=True)
class Places:
    """Where a review reads and writes. ``baseline`` is λ-ECLIPSE's text-only prior, read while there is no champion.

    ``out`` becomes the sheet's folder; ``cache`` keeps what was measured.
    """

    ground: Ground
    releases: Releases
    baseline: Path
    out: Path
    cache: Path


def review(
    registry: Registry, places: Places, params: Params, *, version: str | None = None, blind: bool = False
) -> dict[str, Any]:
    """Review ``version`` (None: the candidate) against the champion; returns review.json.

    Without a champion the reference point ``text`` (λ-ECLIPSE: ``mean``) stands in. The sheet is uploaded to the
    version, and its SHA-256 becomes the tag that a reviewer signs; a signature of another sheet no longer counts.
    Raises an :class:`EclipseError` where there is no such version, it is the champion itself, or the two cannot be
    compared.
    """
    variant = places.ground.variant
    name = model_name(variant, params.serve.decoder)
    wanted = _candidate(registry, name, version)
    with tempfile.TemporaryDirectory() as beside:
        candidate = Side.of(registry.download(wanted, Path(beside) / "candidate"), wanted.version)
        champion = _champion(registry, places, name, wanted, Path(beside) / "champion")
        made = compared(name, candidate, champion, places, params, blind=blind)
    with atomic_folder(places.out) as folder:
        record = write_review(made, folder)
    for file in (RECORD, PICTURE, SHEET):
        registry.add_artifact(wanted, places.out / file, REVIEW_FOLDER)
    registry.tag(wanted, SHEET_TAG, sha256(places.out / SHEET))
    return record


def compared(
    name: str, candidate: Side, champion: Side, places: Places, params: Params, *, blind: bool = False
) -> Review:
    """Measure both, or read what was measured before, and apply the rule."""
    ground = places.ground
    rule, metric = rule_of(params.promote, ground.variant)
    header = read_header(ground.store)
    for role, side in (("candidate", candidate), ("champion", champion)):
        check_encoder(side, f"{name} {role}{f' version {side.version}' if side.version else ''}", header)
    both = (measure(candidate, ground, params, places.cache), measure(champion, ground, params, places.cache))
    table = both[0].table
    shown = choose_prompts(len(table.ids), rule.sheet_prompts, rule.seed)
    secret = f"{rule.seed}\0{candidate.prior_hash}\0{champion.prior_hash}"
    return Review(
        name=name,
        variant=ground.variant,
        candidate=candidate,
        champion=champion,
        measured=both,
        metric=metric,
        categories=rule.categories,
        decision=decide(table, both[1].table, rule, metric),
        shown=shown,
        seed=rule.seed,
        made_from={**ground.facts(), "params_digest": params_digest(params)},
        dataset=ground.dataset,
        blind=BlindKey.make([table.ids[i] for i in shown], secret) if blind else None,
    )


def _candidate(registry: Registry, name: str, version: str | None) -> Version:
    if version is not None:
        return registry.get(name, version)
    found = registry.by_alias(name, CANDIDATE)
    if found is None:
        raise EclipseError(f"{name}: no version is the {CANDIDATE}; run `eclipse register`, or give --version")
    return found


def _champion(registry: Registry, places: Places, name: str, candidate: Version, to: Path) -> Side:
    """What is served now; where nothing was ever promoted, MLflow's champion, and without one the reference."""
    state = places.releases.state()
    served = state.entry(name, "champion")
    if served is not None:
        version, hash_ = served.version, served.prior_hash
    else:
        found = registry.by_alias(name, "champion") if not state.sequence else None
        if found is None:
            return Side.reference(places.ground.variant, places.baseline)
        version, hash_ = found.version, found.tags.get(PRIOR_HASH, "")
    if hash_ == candidate.tags.get(PRIOR_HASH):
        raise EclipseError(f"{candidate}: is the champion itself; give --version of another one")
    side = Side.of(registry.download(registry.get(name, version), to), version)
    if side.prior_hash != hash_:
        raise CheckpointError(f"{name} version {version}: is not the prior that is served ({hash_[:12]})")
    return side
