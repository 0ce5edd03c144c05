"""Everything that changes during a training, and its checkpoint: a training killed at any step goes on bit by bit.

Batches and noise are functions of (seed, step), so the step is the whole position in the data.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from eclipse.errors import CheckpointError
from eclipse.files import atomic_file

FORMAT = 1


class Average:
    """Exponential moving average of the trainable weights, in fp32 or the weights' own type.

    The decay grows as (1 + step) / (10 + step) up to ``decay``, so that a short training isn't an average of its start.
    """

    def __init__(self, prior: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: p.detach().clone() for name, p in prior.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, prior: nn.Module, step: int) -> None:
        """Move towards the weights after optimiser step ``step`` (from 0)."""
        now = dict(prior.named_parameters())
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.weights.values()), [now[name] for name in self.weights], weight)

    @torch.no_grad()
    def copy_to(self, prior: nn.Module) -> None:
        """Put the average in the place of the weights."""
        for name, parameter in prior.named_parameters():
            if name in self.weights:
                parameter.copy_(self.weights[name])


@dataclass
class TrainingState:
    """A training in progress. ``step`` counts finished optimiser steps; ``rows`` are those of the curve so far."""

    prior: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler
    average: Average | None
    step: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0

    def save(self, path: Path, digest: str) -> None:
        """Replace the checkpoint at ``path`` atomically. ``digest`` names the configuration that it belongs to."""
        with atomic_file(path) as beside:
            torch.save(
                {
                    "format": FORMAT,
                    "digest": digest,
                    "step": self.step,
                    "rows": self.rows,
                    "seconds": self.seconds,
                    "prior": self.prior.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "scheduler": self.scheduler.state_dict(),
                    "average": None if self.average is None else self.average.weights,
                    "rng": _random_states(),
                },
                beside,
            )

    def restore(self, path: Path, digest: str) -> bool:
        """Go back to the checkpoint at ``path``; False if there is none. One of another configuration is refused."""
        saved = _read(path, digest)
        if saved is None:
            return False
        try:
            self.prior.load_state_dict(saved["prior"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.scheduler.load_state_dict(saved["scheduler"])
            self._restore_average(saved["average"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(f"{path}: does not fit this training ({_line(error)}); {_REMEDY}") from None
        self.step, self.rows, self.seconds = saved["step"], saved["rows"], saved["seconds"]
        _set_random_states(saved["rng"])
        return True

    def _restore_average(self, weights: dict[str, Tensor] | None) -> None:
        if (self.average is None) != (weights is None):
            raise ValueError("a moving average of weights on one side only")
        if self.average is not None and weights is not None:
            for name, mine in self.average.weights.items():
                mine.copy_(weights[name])


_REMEDY = "delete it to start this training from the beginning"


def _read(path: Path, digest: str) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        format_, owner = saved["format"], saved["digest"]
    except (RuntimeError, EOFError, KeyError, TypeError, OSError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path}: no readable training state ({_line(error)}); {_REMEDY}") from None
    if (format_, owner) != (FORMAT, digest):
        raise CheckpointError(
            f"{path}: digest {owner[:12]} (format {format_}) is of another configuration or data than this training's "
            f"{digest[:12]} (format {FORMAT}); {_REMEDY}"
        )
    return saved


def _random_states() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _set_random_states(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["cpu"])
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
