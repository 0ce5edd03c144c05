"""Learning rate by step, and what weight decay applies to."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from eclipse.errors import ConfigError
from eclipse.train.schedule import make_optimizer, make_scheduler
from tests.train.tiny import settings, tiny_prior


def rates(**changes) -> list[float]:
    chosen = settings(lr=1.0, **changes)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=chosen.lr)
    scheduler = make_scheduler(optimizer, chosen)
    seen = []
    for _ in range(chosen.steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_one_cycle_spans_the_training():
    assert rates(steps=8) == pytest.approx([0.5 * (1 + math.cos(math.pi * i / 8)) for i in range(8)])


def test_restarts_grow_by_the_factor():
    seen = rates(steps=14, cycle=2, cycle_factor=2)
    assert [i for i, rate in enumerate(seen) if rate == pytest.approx(1.0)] == [0, 2, 6]


def test_warmup_is_linear_and_meets_the_peak():
    seen = rates(steps=10, warmup=3)
    assert seen[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert seen[4:] == pytest.approx([0.5 * (1 + math.cos(math.pi * i / 7)) for i in range(1, 7)])


def test_warmup_beyond_the_training_is_refused():
    with pytest.raises(ConfigError, match="train.warmup"):
        rates(steps=3, warmup=3)


def test_decay_only_on_matrices():
    prior = tiny_prior()
    groups = make_optimizer(prior, settings(weight_decay=0.1)).param_groups
    names = {id(p): name for name, p in prior.named_parameters()}
    decayed = {names[id(p)] for p in groups[0]["params"]}
    free = {names[id(p)] for p in groups[1]["params"]}
    assert (groups[0]["weight_decay"], groups[1]["weight_decay"]) == (0.1, 0.0)
    assert {"proj_in.weight", "embedding_proj.weight", "transformer_blocks.0.ff.net.0.proj.weight"} <= decayed
    assert {"positional_embedding", "prd_embedding", "norm_out.weight", "proj_in.bias"} <= free
    assert not any(name.endswith("bias") or "norm" in name for name in decayed)
    assert decayed | free == {name for name, p in prior.named_parameters() if p.requires_grad}
