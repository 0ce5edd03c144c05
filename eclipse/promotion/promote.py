"""Promotion: a version that was reviewed, signed and passed the gate becomes the champion that servers read."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from eclipse.config.params import Params
from eclipse.errors import CheckpointError, ConfigError, EclipseError
from eclipse.models.clip import FrozenClip
from eclipse.promotion.journal import Move, make, recovered
from eclipse.promotion.ledger import Build, Done, Record, Wish, audited, check_together, encoder_of, finishes, tell
from eclipse.promotion.sign import check_signature
from eclipse.releases.clock import now
from eclipse.releases.state import Entry
from eclipse.releases.store import Releases
from eclipse.tracking.registry import PRIOR_HASH, Registry, Version


def promote(
    registry: Registry, releases: Releases, wish: Wish, *, params: Params, frozen: Path, build: Build | None
) -> Done:
    """Make the wanted version the champion; the champion becomes ``previous``.

    Without ``wish.version`` it is the one that the alias ``champion`` was moved to by hand, else the ``candidate``.
    ``frozen`` holds CLIP and decoder (or its reference); ``build`` makes the bundle, None makes none.

    A version that is unsigned, whose sheet is stale, that is below the rule (unless ``wish.override`` with a reason),
    or that does not fit ``frozen`` is refused with an :class:`EclipseError`, and the refusal is audited. A process that
    dies leaves the old champion or the new one in force, and the next command finishes what was begun.
    """
    if wish.override and not wish.reason.strip():
        raise ConfigError("--override: needs --reason TEXT, which is recorded")
    record = Record(wish)
    with recovered(registry, releases) as finished:
        tell(registry, releases, wish.name, finished)
        if finished is not None and finishes(wish, finished):
            return Done(wish.name, finished.champion.version, "promoted", releases.state().release)
        champion = releases.state().entry(wish.name, "champion")
        record.entry["from"] = champion.version if champion else None
        with audited(releases, record):
            version = _wanted(registry, champion, wish)
            record.entry["to"] = version.version
            if champion is not None and champion.version == version.version:
                _put_aliases_right(registry, version)
                return Done(wish.name, version.version, "unchanged", releases.state().release)
            move = _decided(registry, releases, version, record, params=params, frozen=frozen)
            after = move.applied(releases.state())
            check_together(releases, after)
            bento = build(releases, after) if build else None
        make(registry, releases, replace(move, audit={**move.audit, "bento": bento}))
        return Done(wish.name, version.version, "promoted", after.release, bento)


def _wanted(registry: Registry, champion: Entry | None, wish: Wish) -> Version:
    if wish.version is not None:
        return registry.get(wish.name, wish.version)
    by_hand = registry.by_alias(wish.name, "champion")
    if by_hand is not None and (champion is None or champion.version != by_hand.version):
        return by_hand
    candidate = registry.by_alias(wish.name, "candidate")
    if candidate is None:
        present = f"version {champion.version} is the champion" if champion else "there is no champion"
        raise EclipseError(f"{wish.name}: nothing to promote: no alias candidate, and {present}; give --version")
    return candidate


def _put_aliases_right(registry: Registry, champion: Version) -> None:
    registry.set_alias(champion.name, "champion", champion.version)
    if "candidate" in champion.aliases:
        registry.delete_alias(champion.name, "candidate")


def _decided(
    registry: Registry, releases: Releases, version: Version, record: Record, *, params: Params, frozen: Path
) -> Move:
    """The move, once the version was found fit; its files are among the releases then, and nothing names them yet."""
    wish, state = record.wish, releases.state()
    champion = state.entry(wish.name, "champion")
    with tempfile.TemporaryDirectory() as beside:
        folder = registry.download(version, Path(beside) / "prior")
        opponent = champion.prior_hash if champion else _elsewhere(registry, releases, version)
        review = check_signature(registry, version, champion_hash=opponent, params=params)
        decision = _passed(version, review, record)
        registered = {"name": version.name, "version": version.version, "variant": wish.variant, "tags": version.tags}
        hash_ = releases.add_prior(folder, registered)
    _check_encoder(releases, hash_, frozen)
    digest = releases.add_frozen(frozen)
    entry = Entry(version.version, hash_, now(), digest)
    record.entry |= {"outcome": "promoted", "sequence": state.sequence + 1, "prior_hash": hash_}
    tags = {"eclipse.promoted.at": entry.at, "eclipse.promoted.by": wish.by, "eclipse.promoted.decision": decision}
    return Move(
        action="promote",
        name=wish.name,
        variant=wish.variant,
        champion=entry,
        previous=champion,
        frozen=digest,
        sequence=state.sequence + 1,
        audit=record.entry,
        tags={version.version: tags},
    )


def _elsewhere(registry: Registry, releases: Releases, version: Version) -> str | None:
    """Where nothing was promoted yet, a review compares with the champion that MLflow knows from other releases."""
    champion = registry.by_alias(version.name, "champion") if not releases.state().sequence else None
    return champion.tags.get(PRIOR_HASH) if champion and champion.version != version.version else None


def _passed(version: Version, review: dict[str, Any], record: Record) -> str:
    """The gate's decision in words; below the rule only an override passes."""
    decision = review["decision"]
    passed, reasons = bool(decision["passed"]), [str(reason) for reason in decision["reasons"]]
    wish = record.wish
    record.entry |= {
        "decision": {"passed": passed, "rule": decision["rule"], "reasons": reasons},
        "sheet": version.tags.get("eclipse.review.signed"),
        "signed_by": version.tags.get("eclipse.review.by"),
        "override": wish.override and not passed,
    }
    if passed:
        return "passed"
    if not wish.override:
        raise EclipseError(
            f"{version}: below the rule: {'; '.join(reasons)}; see its review sheet, and promote it with "
            "--override --reason TEXT only if you know better"
        )
    return f"below the rule, overridden: {wish.reason}"


def _check_encoder(releases: Releases, prior_hash: str, frozen: Path) -> None:
    needed, clip = encoder_of(releases, prior_hash), FrozenClip.load(frozen / "clip", device="cpu")
    if needed != clip.weights_hash:
        raise CheckpointError(
            f"{frozen / 'clip'}: is the CLIP {clip.weights_hash[:12]}, but the prior was trained on {needed[:12]}; "
            "give the --frozen folder that it was trained with"
        )
