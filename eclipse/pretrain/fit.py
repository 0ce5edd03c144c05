"""One small, resumable training loop for the frozen mini models.

Batches are drawn from ``(seed, step)`` alone, so continuing from a checkpoint repeats nothing and skips nothing.
"""

from __future__ import annotations

import copy
import logging
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitSettings:
    """How long and how fast one frozen model is trained."""

    steps: int
    batch_size: int
    lr: float
    warmup: int = 50
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    ema: float = 0.0
    clip_norm: float = 1.0
    seed: int = 0
    save_every: int = 100


Loss = Callable[[int, np.random.Generator], Tensor]


def fit(model: nn.Module, loss_at: Loss, settings: FitSettings, checkpoint: Path, *, name: str) -> nn.Module:
    """Train ``model`` in place with AdamW and a cosine schedule; return its moving average (or itself, ``ema`` = 0).

    ``loss_at(step, rng)`` returns the scalar loss of one batch. ``checkpoint`` is replaced atomically every
    ``save_every`` steps; if it exists, training goes on from there.
    """
    optimizer = torch.optim.AdamW(_groups(model, settings.weight_decay), lr=settings.lr, betas=settings.betas)
    average = copy.deepcopy(model).requires_grad_(False) if settings.ema else None
    start = _restore(checkpoint, model, optimizer, average)
    model.train()
    running = math.nan
    bar = tqdm(range(start, settings.steps), initial=start, total=settings.steps, desc=name, mininterval=2.0)
    for step in bar:
        torch.manual_seed(settings.seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * _schedule(step, settings)
        loss = loss_at(step, np.random.default_rng([settings.seed, step]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()
        if average is not None:
            _update_average(average, model, min(settings.ema, (1 + step) / (10 + step)))
        running = loss.item() if math.isnan(running) else 0.98 * running + 0.02 * loss.item()
        bar.set_postfix_str(f"loss {running:.4f}", refresh=False)
        if (step + 1) % settings.save_every == 0 or step + 1 == settings.steps:
            if not math.isfinite(running):
                raise FloatingPointError(f"{name}: the loss is {running} at step {step}; lower lr ({settings.lr})")
            _save(checkpoint, model, optimizer, average, step + 1)
            log.info("%s step %d loss %.4f", name, step + 1, running)
    return average if average is not None else model


def _schedule(step: int, settings: FitSettings) -> float:
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    progress = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    matrices = [p for n, p in model.named_parameters() if p.requires_grad and p.ndim > 1 and "embedding" not in n]
    rest = [p for n, p in model.named_parameters() if p.requires_grad and not (p.ndim > 1 and "embedding" not in n)]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


@torch.no_grad()
def _update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    theirs = dict(model.named_parameters())
    for name, mine in average.named_parameters():
        mine.lerp_(theirs[name], 1 - decay)
    buffers = dict(model.named_buffers())
    for name, buffer in average.named_buffers():
        buffer.copy_(buffers[name])


def _save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None, step: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    if average is not None:
        state["average"] = average.state_dict()
    beside = path.with_suffix(".part")
    torch.save(state, beside)
    os.replace(beside, path)


def _restore(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    if average is not None:
        average.load_state_dict(state["average"])
    log.info("continuing %s at step %d", path, state["step"])
    return int(state["step"])
