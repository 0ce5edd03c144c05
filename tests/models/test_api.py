from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from eclipse.errors import DataError
from eclipse.models.api import predict
from eclipse.models.diffusion import build_diffusion, fit_normalisation
from eclipse.models.prior import EclipsePrior, seeded_noise

SIZE = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8}
LENGTHS = [6, 77, 2, 15]


def make(kind: str):
    torch.manual_seed(0)
    if kind == "diffusion":
        prior = build_diffusion(12, **SIZE)
        fit_normalisation(prior, 2 * torch.randn(50, 12) + 1)
        return prior.eval()
    prior = EclipsePrior(12, additional_embeddings=4 if kind == "lambda" else 3, **SIZE)
    nn.init.normal_(prior.positional_embedding)
    return prior.eval()


def captions(order=range(4)) -> SimpleNamespace:
    generator = torch.Generator().manual_seed(3)
    pooled = torch.randn(4, 12, generator=generator)
    states = torch.randn(sum(LENGTHS), 12, generator=generator).split(LENGTHS)
    return SimpleNamespace(
        text_states=torch.cat([states[n] for n in order]),
        lengths=torch.tensor([LENGTHS[n] for n in order]),
        prompt_embeds=pooled[list(order)],
    )


@pytest.mark.parametrize("kind", ["eclipse", "diffusion"])
def test_neither_neighbours_nor_their_order_nor_the_rows_change_a_result(kind):
    prior = make(kind)
    whole = predict(prior, captions(), seeds=torch.tensor([10, 11, 12, 13]), diffusion_steps=8)
    assert whole.shape == (4, 12) and whole.dtype == torch.float32 and not whole.requires_grad
    some = predict(prior, captions([3, 1]), seeds=[13, 11], diffusion_steps=8, row_tokens=16)
    assert torch.allclose(some, whole[[3, 1]], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["eclipse", "diffusion"])
def test_same_seed_same_bytes_and_other_seed_other_result(kind):
    prior = make(kind)
    first, again, other = (predict(prior, captions(), seeds=[s] * 4, diffusion_steps=4) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=1e-3)


def test_eclipse_is_one_pass_on_seeded_noise():
    prior, batch = make("eclipse"), captions()
    with torch.no_grad():
        wanted = prior(seeded_noise(range(4), 12), batch.prompt_embeds, batch.text_states, batch.lengths)
    assert torch.equal(predict(prior, batch, seeds=range(4)), wanted)


def test_guidance_and_steps_reach_the_diffusion_baseline():
    prior = make("diffusion")
    results = [
        predict(prior, captions(), seeds=range(4), diffusion_steps=steps, guidance=guidance)
        for steps, guidance in ((4, 1.0), (4, 4.0), (5, 4.0))
    ]
    assert not torch.allclose(results[0], results[1], atol=1e-3)
    assert not torch.allclose(results[1], results[2], atol=1e-3)


def test_control_goes_to_the_prior_that_has_a_place_for_it():
    prior, batch = make("lambda"), captions()
    results = [predict(prior, batch, seeds=range(4), control_embeds=torch.full((4, 12), x)) for x in (0.0, 3.0)]
    assert not torch.allclose(results[0], results[1], atol=1e-3)
    for kind in ("eclipse", "diffusion"):
        with pytest.raises(DataError, match="no control token"):
            predict(make(kind), batch, seeds=range(4), control_embeds=torch.zeros(4, 12))


@pytest.mark.parametrize("kind", ["eclipse", "diffusion"])
def test_bad_batches_are_refused(kind):
    prior = make(kind)
    with pytest.raises(DataError, match="3 for 4 captions"):
        predict(prior, captions(), seeds=range(3))
    broken = captions()
    broken.prompt_embeds[2, 5] = torch.nan
    with pytest.raises(DataError, match="not finite"):
        predict(prior, broken, seeds=range(4), diffusion_steps=2)
