from __future__ import annotations

import pytest
import torch
from diffusers.models.transformers.prior_transformer import PriorTransformer
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from eclipse.errors import CheckpointError, DataError
from eclipse.models import diffusion
from eclipse.models.diffusion import build_diffusion, denoise, drop_condition, fit_normalisation, normalise, sample
from eclipse.models.packing import pad

LENGTHS = torch.tensor([5, 77, 1, 30])


def small(**more) -> PriorTransformer:
    torch.manual_seed(0)
    prior = build_diffusion(12, num_layers=2, num_attention_heads=2, attention_head_dim=8, **more)
    nn.init.normal_(prior.positional_embedding)
    nn.init.normal_(prior.prd_embedding)
    return prior


def captions(lengths: torch.Tensor, dtype=torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    pooled = torch.randn(len(lengths), 12, generator=generator, dtype=dtype)
    return pooled, torch.randn(int(lengths.sum()), 12, generator=generator, dtype=dtype), lengths


@given(
    lengths=st.lists(st.one_of(st.integers(1, 77), st.integers(2, 20)), min_size=1, max_size=7),
    row_tokens=st.sampled_from([16, 128]),
)
@settings(max_examples=12, deadline=None)
def test_packed_equals_diffusers_own_forward_in_loss_and_gradients(lengths, row_tokens):
    prior, lengths = small().double(), torch.tensor(lengths)
    pooled, states, _ = captions(lengths, torch.float64)
    noisy, times = torch.randn(len(lengths), 12, dtype=torch.float64), torch.randint(0, 1000, (len(lengths),))
    padded, mask = pad(states, lengths)
    found = []
    for out in (
        denoise(prior, noisy, times, pooled, states, lengths, row_tokens=row_tokens),
        prior(noisy, times, pooled, padded, mask).predicted_image_embedding,
    ):
        prior.zero_grad()
        loss = (out - 1).square().mean()
        loss.backward()
        found.append((out, loss, {n: p.grad.clone() for n, p in prior.named_parameters() if p.requires_grad}))
    (ours, our_loss, our_grads), (theirs, their_loss, their_grads) = found
    assert (ours - theirs).abs().max() <= 1e-12 and (our_loss - their_loss).abs() <= 1e-12
    assert max((our_grads[name] - their_grads[name]).abs().max() for name in our_grads) <= 1e-12


def test_it_is_diffusers_class_as_published_with_the_statistics_out_of_training():
    prior = small()
    assert type(prior) is PriorTransformer
    assert (prior.config.num_embeddings, prior.config.additional_embeddings) == (77, 4)
    assert {n for n, p in prior.named_parameters() if not p.requires_grad} == {"clip_mean", "clip_std"}


def test_same_size_as_eclipse_apart_from_time():
    with torch.device("meta"):
        prior = build_diffusion(1280)
    time = sum(p.numel() for p in prior.time_embedding.parameters())
    assert sum(p.numel() for p in prior.parameters()) - time - 512 == 34_193_152


def test_schedule_is_linear_over_its_training_steps():
    scheduler = diffusion.schedule(small(train_steps=200))
    assert torch.allclose(scheduler.betas, torch.linspace(1e-4, 0.02, 200))
    assert scheduler.config.prediction_type == "sample"
    scheduler = diffusion.schedule(small())
    scheduler.set_timesteps(25)
    assert len(scheduler.timesteps) == 25
    assert scheduler.timesteps[0] == 999 and scheduler.timesteps[-1] == 39


def test_normalised_targets_have_unit_variance_and_map_back():
    prior = small()
    targets = torch.randn(500, 12) * torch.linspace(0.1, 9, 12) + 3
    fit_normalisation(prior, targets)
    x = normalise(prior, targets)
    assert torch.allclose(x.mean(0), torch.zeros(12), atol=1e-5) and torch.allclose(x.std(0), torch.ones(12), atol=1e-4)
    assert torch.allclose(prior.post_process_latents(x), targets, atol=1e-4)


@pytest.mark.parametrize(
    ("targets", "match"),
    [
        (torch.zeros(1, 12), "at least 2"),
        (torch.zeros(5, 11), "width 12"),
        (torch.full((5, 12), torch.nan), "not all finite"),
    ],
)
def test_statistics_of_bad_targets_are_refused(targets, match):
    with pytest.raises(DataError, match=match):
        fit_normalisation(small(), targets)


def test_a_constant_channel_does_not_divide_by_zero():
    prior = small()
    fit_normalisation(prior, torch.ones(5, 12))
    assert torch.isfinite(normalise(prior, torch.ones(5, 12))).all()


def test_dropped_captions_become_one_zero_state_and_a_zero_pooled_vector():
    pooled, states, lengths = captions(LENGTHS)
    drop = torch.tensor([True, False, True, False])
    new_pooled, new_states, new_lengths = drop_condition(pooled, states, lengths, drop)
    assert new_lengths.tolist() == [1, 77, 1, 30]
    first, second, third, fourth = new_states.split(new_lengths.tolist())
    assert not first.any() and not third.any()
    assert torch.equal(second, states[5:82]) and torch.equal(fourth, states[83:])
    assert not new_pooled[drop].any() and torch.equal(new_pooled[~drop], pooled[~drop])


def test_dropping_nothing_changes_nothing():
    given_ = captions(LENGTHS)
    for before, after in zip(given_, drop_condition(*given_, torch.zeros(4, dtype=torch.bool)), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_samples_do_not_depend_on_the_batch_but_on_their_seed(guidance):
    prior = small()
    fit_normalisation(prior, torch.randn(50, 12) + 2)
    pooled, states, lengths = captions(LENGTHS)
    options = {"steps": 10, "guidance": guidance}
    together = sample(prior, pooled, states, lengths, seeds=[4, 5, 6, 7], **options)
    alone = sample(prior, pooled[3:], states[83:], lengths[3:], seeds=[7], **options)
    other = sample(prior, pooled[3:], states[83:], lengths[3:], seeds=[8], **options)
    assert torch.allclose(together[3], alone[0], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(other, alone, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 7, 25])
def test_a_perfect_denoiser_samples_its_target(monkeypatch, steps):
    prior = small()
    targets = torch.randn(50, 12) * 3 + 1
    fit_normalisation(prior, targets)
    clean = normalise(prior, targets[:4])
    monkeypatch.setattr(diffusion, "denoise", lambda *args, **_: clean)
    found = sample(prior, *captions(LENGTHS), seeds=range(4), steps=steps, guidance=1.0)
    assert torch.allclose(found, targets[:4], atol=0.05 if steps == 7 else 1e-4)


def test_guidance_leads_away_from_the_empty_condition(monkeypatch):
    prior = small()

    def fake(_, noisy, times, pooled, states, lengths, **__):
        return torch.where(pooled.abs().sum(1, keepdim=True) == 0, 0.5, 0.75).expand_as(noisy)

    monkeypatch.setattr(diffusion, "denoise", fake)
    found = sample(prior, *captions(LENGTHS), seeds=range(4), steps=5, guidance=4.0)
    assert torch.allclose(found, torch.full_like(found, 0.5 + 4 * 0.25), atol=1e-4)


def test_the_start_is_noise_of_unit_variance_and_each_step_is_told_its_time(monkeypatch):
    prior, seen = small(), []

    def fake(_, noisy, times, *__, **___):
        seen.append((noisy.clone(), times.unique().tolist()))
        return torch.zeros_like(noisy)

    monkeypatch.setattr(diffusion, "denoise", fake)
    lengths = torch.full((400,), 2)
    sample(prior, *captions(lengths), seeds=range(400), steps=4, guidance=1.0)
    assert seen[0][0].std().item() == pytest.approx(1, abs=0.05)
    assert [times for _, times in seen] == [[999], [749], [499], [249]]


def test_a_model_without_statistics_is_refused():
    prior = small()
    nn.init.zeros_(prior.clip_std)
    with pytest.raises(CheckpointError, match="clip_std"):
        sample(prior, *captions(LENGTHS), seeds=range(4))


def test_text_states_of_another_width_are_refused():
    assert build_diffusion(12, 12, num_layers=1).config.embedding_dim == 12
    with pytest.raises(DataError, match="state_dim: 10"):
        build_diffusion(12, 10)
