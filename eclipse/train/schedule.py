"""The learning rate over time, and which parameters weight decay applies to."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, LinearLR, LRScheduler, SequentialLR

from eclipse.config.params import TrainParams
from eclipse.errors import ConfigError


def make_optimizer(prior: nn.Module, settings: TrainParams) -> torch.optim.AdamW:
    """AdamW with weight decay on the matrices of linear layers only: not on biases, norms, or learned embeddings."""
    matrices = {id(module.weight) for module in prior.modules() if isinstance(module, nn.Linear)}
    trainable = [parameter for parameter in prior.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if id(p) in matrices], "weight_decay": settings.weight_decay},
        {"params": [p for p in trainable if id(p) not in matrices], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=settings.lr)


def make_scheduler(optimizer: torch.optim.Optimizer, settings: TrainParams) -> LRScheduler:
    """Cosine annealing with warm restarts (the paper's), after ``warmup`` steps of linear growth.

    Step i of the warm-up trains with lr · (i + 1) / (warmup + 1); the first step after it with lr. Without ``cycle``
    one period spans all remaining steps.
    """
    remaining = settings.steps - settings.warmup
    if remaining < 1:
        raise ConfigError(f"train.warmup ({settings.warmup}) must be less than train.steps ({settings.steps})")
    period = settings.cycle or remaining
    cosine = CosineAnnealingWarmRestarts(optimizer, T_0=period, T_mult=settings.cycle_factor)
    if not settings.warmup:
        return cosine
    growth = LinearLR(optimizer, start_factor=1 / (settings.warmup + 1), total_iters=settings.warmup)
    return SequentialLR(optimizer, [growth, cosine], milestones=[settings.warmup])
