"""A job that was taken on: what is left of it to do, and what it costs."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from torch import Tensor

from eclipse.models.decoder import Decoder
from eclipse.serve.engine.models import LoadedPrior
from eclipse.serve.engine.ticket import JobTicket
from eclipse.serve.types import Job

Size = tuple[int, int]
"""Height and width in pixels."""


def cost(job: Job, decoder: Decoder) -> float:
    """Work of a job in steps of ``decoder`` for one picture of its own size; an embedding counts as one."""
    return picture_cost(job, decoder) * len(job.wanted)


def picture_cost(job: Job, decoder: Decoder) -> float:
    """The part of :func:`cost` that each of its pictures has."""
    return 1.0 if job.drawing is None else decoder.cost(job.drawing)


@dataclass(frozen=True)
class Embeds:
    """ẑ_x [P] of wanted picture ``index``, and where guidance needs it the embedding [P] that it leads away from.

    ``seconds`` by phase: text and prior.
    """

    index: int
    image: Tensor
    negative: Tensor | None
    seconds: dict[str, float]


@dataclass(eq=False)
class Order:
    """A job and its pictures: indices ``waiting`` for an embedding, those ``ready`` to be drawn, and ``open`` not done.

    ``left`` is the cost of what is not done; ``submitted`` and ``deadline`` are monotonic seconds. ``prior`` is the one
    of all its pictures, chosen for good when the first is embedded (``bound``).
    """

    job: Job
    ticket: JobTicket
    prior: LoadedPrior
    share: float
    submitted: float
    bound: bool = False
    waiting: deque[int] = field(default_factory=deque)
    ready: deque[Embeds] = field(default_factory=deque)

    def __post_init__(self) -> None:
        count = len(self.job.wanted)
        self.waiting.extend(range(count))
        self.open = count
        self.left = self.share * count
        self.deadline = self.submitted + self.job.seconds

    @property
    def size(self) -> Size | None:
        """Of its pictures; None where only embeddings are wanted."""
        return None if self.job.drawing is None else (self.job.drawing.height, self.job.drawing.width)

    def pay(self, amount: float) -> None:
        """``amount`` of its cost is done."""
        self.left = max(0.0, self.left - amount)

    def close_one(self) -> bool:
        """One picture more is done; True when it was the last."""
        self.open -= 1
        return self.open == 0
