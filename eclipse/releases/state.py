"""``state.json``: which versions are in force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from eclipse.errors import CheckpointError, DataError
from eclipse.files import read_json

Role = Literal["champion", "previous", "candidate"]


@dataclass(frozen=True)
class Entry:
    """A version in a role ``at`` (UTC, ISO 8601); ``frozen`` names the frozen models that it was put in force with."""

    version: str
    prior_hash: str
    at: str
    frozen: str | None = None


@dataclass(frozen=True)
class Model:
    """A registered model's versions by role."""

    variant: str
    champion: Entry | None = None
    previous: Entry | None = None
    candidate: Entry | None = None


@dataclass(frozen=True)
class State:
    """All of ``state.json``: ``sequence`` counts moves of champions.

    ``frozen`` is the digest of the frozen models in force.
    """

    sequence: int = 0
    frozen: str | None = None
    models: Mapping[str, Model] = field(default_factory=dict)

    @property
    def release(self) -> str:
        """The name of what is in force."""
        return f"sequence-{self.sequence}"

    @property
    def champions(self) -> dict[str, Entry]:
        """Name of the registered model → its champion, for those that have one."""
        return {name: model.champion for name, model in self.models.items() if model.champion is not None}

    def entry(self, name: str, role: Role) -> Entry | None:
        """The version of ``name`` in this role; None for a model that is not known."""
        model = self.models.get(name)
        found: Entry | None = getattr(model, role) if model else None
        return found

    def holding(self, name: str, model: Model) -> State:
        """The same release, in which ``name`` stands as ``model``: only its candidate is another."""
        return replace(self, models={**self.models, name: model})

    def following(self, name: str, model: Model, *, frozen: str | None = None) -> State:
        """The next release, in which ``name`` stands as ``model``; ``frozen`` None leaves the frozen models."""
        return replace(self.holding(name, model), sequence=self.sequence + 1, frozen=frozen or self.frozen)

    def to_json(self) -> dict[str, Any]:
        """What ``state.json`` holds."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any, where: Path | str) -> State:
        """The reverse of :meth:`to_json`; :class:`CheckpointError` naming ``where`` if it is no such thing."""
        try:
            models = {name: _model(model) for name, model in value["models"].items()}
            return cls(int(value["sequence"]), value["frozen"], models)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{where}: not a state of releases ({type(error).__name__}: {error}); put back a copy of it, or move "
                "the folder away and promote again"
            ) from None


def read_state(path: Path) -> State:
    """The state in ``path``; the empty one where there is no such file."""
    if not path.is_file():
        return State()
    try:
        return State.from_json(read_json(path), path)
    except DataError as error:
        raise CheckpointError(
            f"{path}: damaged ({error}); put back a copy of it, or move the folder away and promote again"
        ) from None


def _model(value: dict[str, Any]) -> Model:
    roles: tuple[Role, ...] = ("champion", "previous", "candidate")
    return Model(str(value["variant"]), **{role: Entry(**value[role]) if value[role] else None for role in roles})
