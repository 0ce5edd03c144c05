"""Rollback: the previous champion back in force, in one command."""

from __future__ import annotations

import logging
from dataclasses import replace

from eclipse.errors import EclipseError
from eclipse.promotion.journal import Move, make, recovered
from eclipse.promotion.ledger import Build, Done, Record, Wish, audited, check_together, finishes, tell
from eclipse.releases.clock import now
from eclipse.releases.store import Releases
from eclipse.tracking.registry import Registry

log = logging.getLogger(__name__)


def rollback(registry: Registry, releases: Releases, wish: Wish, *, build: Build | None) -> Done:
    """Exchange champion and previous, with the frozen models that the previous one was in force with.

    Nothing is fetched or judged: its files were kept, and are checked. Servers switch before ``build`` makes the
    bundle; one that cannot be made is a warning. Rolled back twice, the champion is the one from before; with
    ``wish.version``, the champion that is wanted, a repetition changes nothing.
    """
    record = Record(wish)
    with recovered(registry, releases) as finished:
        tell(registry, releases, wish.name, finished)
        if finished is not None and finishes(wish, finished):
            bento = _bundle(releases, build) if build else None
            return Done(wish.name, finished.champion.version, "rolled-back", releases.state().release, bento)
        champion = releases.state().entry(wish.name, "champion")
        if champion is not None and champion.version == wish.version:
            return Done(wish.name, champion.version, "unchanged", releases.state().release)
        with audited(releases, record):
            move = _checked(releases, record)
        make(registry, releases, move)
        bento = _bundle(releases, build) if build else None
        return Done(wish.name, move.champion.version, "rolled-back", releases.state().release, bento)


def _checked(releases: Releases, record: Record) -> Move:
    wish, state = record.wish, releases.state()
    champion, previous = state.entry(wish.name, "champion"), state.entry(wish.name, "previous")
    if champion is None or previous is None:
        raise EclipseError(f"{wish.name}: no previous champion to go back to")
    if wish.version not in (None, previous.version):
        raise EclipseError(f"{wish.name}: the previous champion is version {previous.version}, not {wish.version}")
    frozen = previous.frozen or state.frozen
    if frozen is None:
        raise EclipseError(f"{wish.name}: nothing says which frozen models the previous champion needs; promote it")
    releases.prior(previous.prior_hash)
    releases.frozen(frozen)
    at = now()
    record.entry |= {
        "from": champion.version,
        "to": previous.version,
        "prior_hash": previous.prior_hash,
        "sequence": state.sequence + 1,
        "outcome": "rolled-back",
    }
    left = {"eclipse.rolled_back.at": at, "eclipse.rolled_back.by": wish.by, "eclipse.rolled_back.reason": wish.reason}
    back = {"eclipse.promoted.at": at, "eclipse.promoted.by": wish.by, "eclipse.promoted.decision": "rollback"}
    move = Move(
        action="rollback",
        name=wish.name,
        variant=state.models[wish.name].variant,
        champion=replace(previous, at=at),
        previous=champion,
        frozen=frozen,
        sequence=state.sequence + 1,
        audit=record.entry,
        tags={champion.version: left, previous.version: back},
    )
    check_together(releases, move.applied(state))
    return move


def _bundle(releases: Releases, build: Build) -> str | None:
    try:
        return build(releases, releases.state())
    except (EclipseError, OSError) as error:
        log.warning("warning: rolled back, but its bundle was not made: %s", error)
        return None
