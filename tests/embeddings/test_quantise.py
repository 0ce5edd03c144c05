"""Text states in one byte a channel."""

import pytest
import torch

from eclipse.embeddings.quantise import Statics, dequantise, estimate, gate, measure, quantise
from eclipse.errors import StoreError

DIM = 1280


def outlier_states(count=400, seed=0):
    """States of a large CLIP: two channels fifty times as far out as the others spread."""
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(DIM, generator=torch.Generator().manual_seed(77))
    x = torch.randn(count, DIM, generator=generator) * 0.7 + mean
    x[:, 7] = 50 * 0.7 + 3 * torch.randn(count, generator=generator)
    x[:, 900] = -50 * 0.7 + 10 * torch.randn(count, generator=generator)
    return x


def error(states, statics):
    return measure(states, dequantise(*quantise(states, statics), statics), statics)


def test_statistics_of_a_sample_keep_other_tokens_below_one_percent():
    statics = estimate(outlier_states(seed=1), torch.zeros(DIM))
    found = error(outlier_states(seed=2), statics)
    gate(found, "shard")
    assert found.spread < 0.007, "evenly spaced levels would give 0.0076"


def test_rare_peaked_tokens_stay_within_the_limit():
    states = torch.randn(100, DIM, generator=torch.Generator().manual_seed(0))
    states[:, 11] = 7.5  # seven and a half times the spread, where one in thousands of millions of values lies
    statics = Statics(torch.zeros(DIM), torch.ones(DIM), torch.zeros(DIM).half())
    found = error(states, statics)
    gate(found, "shard")
    evenly = torch.round(states * 127 / 7.5) * 7.5 / 127
    assert measure(states, evenly, statics).token > 0.015


def test_plain_absmax_would_fail_the_gate():
    states = outlier_states()
    true = estimate(states, torch.zeros(DIM))
    step = states.abs().amax(1, keepdim=True) / 127
    found = measure(states, torch.round(states / step) * step, true)
    assert found.spread > 0.08
    with pytest.raises(StoreError, match=r"shard-3.*set store.tokens=fp16"):
        gate(found, "shard-3")


def test_error_hidden_beside_a_huge_channel_is_still_seen():
    statics = Statics(torch.zeros(4), torch.ones(4), torch.zeros(4).half())
    states = torch.tensor([[1.0, -1.0, 1.0, 1e4]])
    found = measure(states, states * torch.tensor([0.0, 0.0, 0.0, 1.0]), statics)
    assert found.token < 1e-3
    centred = Statics(torch.tensor([0.0, 0.0, 0.0, 1e4]), torch.ones(4), statics.bos)
    assert measure(states, states * torch.tensor([0.0, 0.0, 0.0, 1.0]), centred).spread == pytest.approx(1.0)


def test_constant_channel_and_token_at_the_mean_are_harmless():
    states = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    states[:, 3] = 2.5
    states[0] = states[1]
    statics = estimate(states, torch.zeros(8))
    at_mean = statics.mean[None].clone()
    restored = dequantise(*quantise(at_mean, statics), statics)
    torch.testing.assert_close(restored, at_mean, atol=1e-3, rtol=0)
    assert torch.isfinite(dequantise(*quantise(states, statics), statics)).all()


def test_not_a_number_does_not_pass_the_gate():
    states = torch.ones(2, 4)
    statics = Statics(torch.zeros(4), torch.ones(4), torch.zeros(4).half())
    with pytest.raises(StoreError):
        gate(measure(states, states * float("nan"), statics), "shard")
