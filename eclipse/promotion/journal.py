"""A move of the champion that is made whole or not at all: written down first, then done, in steps that may repeat.

Before the journal is written nothing in force has changed; from then on the move is only ever carried on. Whoever takes
the lock next finishes it first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from eclipse.errors import CheckpointError, DataError
from eclipse.files import read_json
from eclipse.releases.audit import append, read_audit
from eclipse.releases.state import Entry, Model, State
from eclipse.releases.store import JOURNAL, Releases, sync_folder, write_durably
from eclipse.tracking.registry import Registry


@dataclass(frozen=True)
class Move:
    """What is to be in force: ``champion`` and ``previous`` of the registered model ``name``, and ``frozen``.

    ``sequence`` is the release that it makes. ``tags`` (version → key → value) are set in MLflow, ``audit`` is the
    audit's entry; its ``id`` tells it from all others.
    """

    action: Literal["promote", "rollback"]
    name: str
    variant: str
    champion: Entry
    previous: Entry | None
    frozen: str
    sequence: int
    audit: dict[str, Any]
    tags: dict[str, dict[str, str]]

    def applied(self, state: State) -> State:
        """The release that follows ``state`` by this move; a candidate that became champion is no candidate."""
        model = state.models.get(self.name, Model(self.variant))
        candidate = model.candidate
        if candidate is not None and candidate.version == self.champion.version:
            candidate = None
        model = replace(model, champion=self.champion, previous=self.previous, candidate=candidate)
        return state.following(self.name, model, frozen=self.frozen)


@contextmanager
def recovered(registry: Registry, releases: Releases) -> Iterator[Move | None]:
    """Hold the releases' lock, with no move unfinished; gives the one that had to be finished first, if any."""
    with releases.lock():
        move = _unfinished(releases)
        if move is not None:
            move = replace(move, audit={**move.audit, "recovered": True})
            _finish(registry, releases, move)
        yield move


def make(registry: Registry, releases: Releases, move: Move) -> None:
    """Do ``move``. For holders of the lock; a process that dies in it leaves it to :func:`recovered`."""
    write_durably(releases.folder / JOURNAL, asdict(move))
    _finish(registry, releases, move)


def is_unfinished(releases: Releases) -> bool:
    """Whether a move was begun and not finished."""
    return (releases.folder / JOURNAL).exists()


def _finish(registry: Registry, releases: Releases, move: Move) -> None:
    _move_aliases(registry, move)
    if releases.state().sequence < move.sequence:
        releases.write_state(move.applied(releases.state()))  # here servers switch
    for version, tags in move.tags.items():
        for key, value in tags.items():
            registry.tag(registry.get(move.name, version), key, value)
    if all(entry.get("id") != move.audit["id"] for entry in read_audit(releases)):
        append(releases, move.audit)
    _remove(releases)


def _remove(releases: Releases) -> None:
    (releases.folder / JOURNAL).unlink()
    sync_folder(releases.folder)


def _move_aliases(registry: Registry, move: Move) -> None:
    if move.previous is not None:
        registry.set_alias(move.name, "previous", move.previous.version)
    registry.set_alias(move.name, "champion", move.champion.version)
    candidate = registry.by_alias(move.name, "candidate")
    if candidate is not None and candidate.version == move.champion.version:
        registry.delete_alias(move.name, "candidate")


def _unfinished(releases: Releases) -> Move | None:
    path = releases.folder / JOURNAL
    if not path.is_file():
        return None
    try:
        value = read_json(path)
        previous = Entry(**value["previous"]) if value["previous"] else None
        return Move(**{**value, "champion": Entry(**value["champion"]), "previous": previous})
    except (DataError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: not a journal ({error}); compare state.json with MLflow's aliases, then delete it"
        ) from None
