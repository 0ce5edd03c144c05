"""What promotion and rollback share: who asks for what, what became of it, and how both are told and recorded."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from eclipse.errors import CheckpointError, EclipseError
from eclipse.files import read_json
from eclipse.promotion.journal import Move
from eclipse.releases.audit import append, faults
from eclipse.releases.clock import now
from eclipse.releases.state import Role, State
from eclipse.releases.store import Releases
from eclipse.tracking.registry import Registry

log = logging.getLogger(__name__)

Build: TypeAlias = Callable[[Releases, State], str]
"""Makes the bundle of a release and returns its tag."""


@dataclass(frozen=True)
class Wish:
    """What a person asks for. ``version`` None leaves the choice to the aliases; ``reason`` explains an override."""

    action: Literal["promote", "rollback"]
    name: str
    variant: str
    by: str
    version: str | None = None
    override: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Done:
    """What is in force afterwards; ``unchanged`` when it was before. ``bento`` is the bundle's tag, if one was made."""

    name: str
    version: str
    outcome: Literal["promoted", "rolled-back", "unchanged"]
    release: str
    bento: str | None = None


@dataclass
class Record:
    """The audit's entry of one command while it is being decided."""

    wish: Wish
    entry: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.entry = {
            "id": uuid.uuid4().hex,
            "at": now(),
            "action": self.wish.action,
            "model": self.wish.name,
            "by": self.wish.by,
            "from": None,
            "to": self.wish.version,
            "decision": None,
            "reason": self.wish.reason,
            "sequence": None,
            "outcome": "refused",
        }


@contextmanager
def audited(releases: Releases, record: Record) -> Iterator[None]:
    """Write ``record`` to the audit as a refusal where an :class:`EclipseError` is raised, which goes on."""
    try:
        yield
    except EclipseError as error:
        refusal = {"outcome": "refused", "sequence": None, "detail": " ".join(str(error).split())}
        append(releases, {**record.entry, **refusal})
        raise


def tell(registry: Registry, releases: Releases, name: str, finished: Move | None) -> None:
    """Warn of a move that had to be finished first, of a damaged audit, and of aliases that were moved by hand."""
    if finished is not None:
        log.warning(
            "warning: a %s of %s to version %s had been cut off; it was finished first",
            finished.action,
            finished.name,
            finished.champion.version,
        )
    for fault in faults(releases):
        log.warning("warning: %s", fault)
    for text in disagreements(registry, releases.state(), name):
        log.warning("warning: %s", text)


def finishes(wish: Wish, finished: Move | None) -> bool:
    """Whether the move that had to be finished is what ``wish`` asks for: then nothing is left to do.

    Who runs a command again after it was cut off means it once. A rollback that were made twice would undo itself.
    """
    if finished is None or (finished.action, finished.name) != (wish.action, wish.name):
        return False
    return wish.version in (None, finished.champion.version)


def disagreements(registry: Registry, state: State, name: str) -> list[str]:
    """Where MLflow's aliases name other versions than those in force, a sentence each."""
    found = []
    roles: tuple[Role, ...] = ("champion", "previous")
    for role in roles:
        alias, entry = registry.by_alias(name, role), state.entry(name, role)
        there, here = (alias.version if alias else "none"), (entry.version if entry else "none")
        if there != here:
            found.append(
                f"{name}: MLflow's alias {role} names version {there}, but {here} is in force; it was set by hand"
            )
    return found


def check_together(releases: Releases, state: State) -> None:
    """:class:`CheckpointError` where the champions of ``state`` are of several CLIPs: no server could load it."""
    encoders = {name: encoder_of(releases, entry.prior_hash) for name, entry in state.champions.items()}
    if len(set(encoders.values())) > 1:
        listed = ", ".join(f"{name} {encoder[:12]}" for name, encoder in encoders.items())
        raise CheckpointError(
            f"{releases.folder}: the champions would be of several CLIPs ({listed}); keep those of another CLIP in "
            "releases of their own (ECLIPSE_RELEASES)"
        )


def encoder_of(releases: Releases, prior_hash: str) -> str:
    """The hash of the CLIP that a released prior says it was trained on."""
    path = releases.prior(prior_hash) / "training.json"
    encoder = read_json(path).get("encoder_hash")
    if not encoder:
        raise CheckpointError(f"{path}: has no encoder_hash; train the prior by this project's train stage")
    return str(encoder)
