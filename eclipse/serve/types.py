"""What the service's parts hand each other: pictures that are wanted, what became of them, and refusals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from eclipse.models.decoder import Drawing as Drawing
from eclipse.personalize.generate import PlacedSubject

Variant = Literal["eclipse", "lambda-eclipse"]


@dataclass(frozen=True)
class Prompt:
    """What one picture shows: ``control`` uint8 [S, S, 3] is an edge map of the CLIP's size."""

    text: str
    subjects: tuple[PlacedSubject, ...] = ()
    control: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Blend:
    """A point between two prompts: ``at`` 0 is ``first``, 1 is ``second``."""

    first: Prompt
    second: Prompt
    at: float
    mode: Literal["linear", "slerp"] = "slerp"


Source: TypeAlias = Prompt | Blend


def text_of(source: Source) -> str:
    """What a decoder that reads text reads: the prompt; nothing between two, where there are no words."""
    return source.text if isinstance(source, Prompt) else ""


@dataclass(frozen=True)
class Wanted:
    """One picture of a job: what it shows and its seed, of the noise of prior and decoder."""

    source: Source
    seed: int


@dataclass(frozen=True)
class Job:
    """One request's work. ``model`` names a loaded prior; ``drawing`` None asks for embeddings only.

    ``partial_images`` is how many unfinished pictures of each wanted one are sent on the way (0–3). ``seconds`` is
    how long the job may take before it is given up.
    """

    model: str
    wanted: tuple[Wanted, ...]
    drawing: Drawing | None
    partial_images: int = 0
    seconds: float = 120.0


@dataclass(frozen=True)
class PriorName:
    """Identity of a loaded prior: its ``model`` name in requests, content hash and registered version (if any)."""

    model: str
    variant: Variant
    prior_hash: str
    version: str | None = None


@dataclass(frozen=True)
class Embedded:
    """ẑ_x float32 [P] (CPU) of wanted picture ``index``, made by ``prior``."""

    index: int
    image_embeds: Tensor
    prior: PriorName


@dataclass(frozen=True)
class Partial:
    """An unfinished picture uint8 [H, W, 3]: the ``number``-th (from 0) of wanted picture ``index``."""

    index: int
    number: int
    image: NDArray[np.uint8]


@dataclass(frozen=True)
class Drawn:
    """A finished picture uint8 [H, W, 3] of wanted picture ``index``; ``finite`` is False where the decoder gave NaN.

    ``seconds`` holds the time spent by phase: queue, text, prior, decoder.
    """

    index: int
    image: NDArray[np.uint8]
    image_embeds: Tensor
    prior: PriorName
    finite: bool = True
    seconds: dict[str, float] = field(default_factory=dict)


Event: TypeAlias = Embedded | Partial | Drawn


class RefusedError(Exception):
    """The server is full: try again after ``retry_after`` seconds (HTTP 429)."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"the server is busy; try again in {retry_after:.0f} s")
        self.retry_after = retry_after


class JobTooLargeError(Exception):
    """One job costs more than the server ever takes on at once (HTTP 400); see ``Engine.cost``."""

    def __init__(self, cost: float, limit: float) -> None:
        super().__init__(
            f"the request costs {cost:.0f} decoder steps and this server takes on at most {limit:.0f} at once; ask for "
            "fewer pictures, fewer steps or a smaller size"
        )
        self.cost = cost
        self.limit = limit


class UnknownModelError(Exception):
    """No loaded prior has the asked name (HTTP 404)."""


class GivenUpError(Exception):
    """The job took longer than its ``seconds`` (HTTP 504) or the server is stopping (HTTP 503, ``stopping``)."""

    def __init__(self, message: str, *, stopping: bool = False) -> None:
        super().__init__(message)
        self.stopping = stopping


class Ticket(Protocol):
    """A job that was taken on."""

    async def __anext__(self) -> Event:
        """The next event; ``StopAsyncIteration`` after the last, or what went wrong."""

    def __aiter__(self) -> Ticket:
        """Itself."""

    def cancel(self) -> None:
        """Stop between two steps and free the slots; may be called at any time and from any thread."""
