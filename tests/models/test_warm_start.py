"""A prior that starts from another: whose weights lie where, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from eclipse.errors import CheckpointError
from eclipse.models.checkpoint import prior_hash, prior_meta, save_prior
from eclipse.models.diffusion import build_diffusion
from eclipse.models.packing import pad
from eclipse.models.prior import EclipsePrior
from eclipse.models.warm_start import warm_start

SIZE = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8}
LENGTHS = torch.tensor([5, 77, 3])


def made(seed: int = 0, control: bool = False, **more) -> EclipsePrior:
    torch.manual_seed(seed)
    prior = EclipsePrior(12, additional_embeddings=4 if control else 3, **{**SIZE, **more})
    for parameter in prior.parameters():
        # Biases and positions as large as weights, so that a wrong one shows.
        nn.init.normal_(parameter, std=0.5)
    return prior


def saved(prior, folder: Path, meta: dict | None = None) -> Path:
    save_prior(prior, folder, meta)
    return folder


def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = {"noise": 3, "prompt_embeds": 3, "text_states": int(LENGTHS.sum())}
    return {name: torch.randn(rows, 12, generator=generator, dtype=torch.float64) for name, rows in shapes.items()}


def deaf_to_control(prior: EclipsePrior) -> torch.Tensor:
    """The padded forward pass of a λ-ECLIPSE prior in which no other token attends to the control token."""
    given = inputs()
    states, mask = pad(given.pop("text_states"), LENGTHS)
    extras = prior._extras(**given, control_embeds=torch.zeros(3, 12, dtype=torch.float64))
    hidden = torch.cat([prior.encoder_hidden_states_proj(states), extras], dim=1) + prior.positional_embedding
    allowed = torch.ones(81, 81, dtype=torch.bool).tril() & nn.functional.pad(mask, (0, 4), value=True)[:, None]
    allowed[:, :, 77] = False
    allowed |= torch.eye(81, dtype=torch.bool)
    bias = torch.zeros(allowed.shape, dtype=torch.float64).masked_fill(~allowed, -1e9).repeat_interleave(2, dim=0)
    for block in prior.transformer_blocks:
        hidden = block(hidden, attention_mask=bias)
    return prior.proj_to_clip_embeddings(prior.norm_out(hidden)[:, -1])


def test_without_its_control_token_the_prior_computes_what_the_eclipse_prior_does(tmp_path):
    source, prior = made(0), made(1, control=True)
    assert warm_start(prior, saved(source, tmp_path)) == prior_hash(tmp_path)
    wanted = source.double()(**inputs(), lengths=LENGTHS)
    assert (deaf_to_control(prior.double()) - wanted).abs().max() <= 1e-12


def test_the_control_token_starts_as_a_noise_token_of_zero_whatever_it_is_given(tmp_path):
    source, prior = made(0), made(1, control=True)
    warm_start(prior, saved(source, tmp_path))
    zeros, ones = torch.zeros(3, 12), torch.ones(3, 12)
    place = prior.positional_embedding[0, 77]
    noise = source.proj_in(zeros)[0] + source.positional_embedding[0, 78]
    assert torch.allclose(prior.embedding_control(ones)[0] + place, noise)
    given = {name: value.float() for name, value in inputs().items()}
    first, second = (prior(**given, lengths=LENGTHS, control_embeds=control) for control in (zeros, ones))
    assert torch.equal(first, second)
    first.square().sum().backward()
    assert prior.embedding_control.weight.grad is not None


def test_the_control_token_learns_from_the_first_step(tmp_path):
    prior = made(1, control=True)
    warm_start(prior, saved(made(0), tmp_path))
    given = {name: value.float() for name, value in inputs().items()}
    prior(**given, lengths=LENGTHS, control_embeds=torch.ones(3, 12)).square().sum().backward()
    assert prior.embedding_control.weight.grad.abs().max() > 0


@pytest.mark.parametrize("control", [False, True])
def test_a_prior_of_the_same_kind_is_copied_whole(tmp_path, control: bool):
    source, prior = made(0, control), made(1, control)
    warm_start(prior, saved(source, tmp_path))
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in prior.state_dict().items())


def test_kinds_that_do_not_lead_to_each_other_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="of kind eclipse cannot start from one of lambda-eclipse"):
        warm_start(made(), saved(made(control=True), tmp_path / "lambda"))
    with pytest.raises(CheckpointError, match="of kind lambda-eclipse cannot start from one of diffusion"):
        warm_start(made(control=True), saved(build_diffusion(12, **SIZE), tmp_path / "diffusion"))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"num_layers": 3}, "num_layers is 2, not 3;"),
        ({"state_dim": 10}, "state_dim is 12, not 10;"),
        ({"num_attention_heads": 4, "attention_head_dim": 4}, "num_attention_heads is 2, not 4, attention_head_dim is"),
        ({"num_embeddings": 64}, "num_embeddings is 77, not 64;"),
    ],
)
def test_other_sizes_are_named(tmp_path, change, what):
    prior = made(1, control=True, **change)
    before = {name: value.clone() for name, value in prior.state_dict().items()}
    with pytest.raises(CheckpointError, match=what):
        warm_start(prior, saved(made(), tmp_path))
    assert all(torch.equal(value, before[name]) for name, value in prior.state_dict().items())


def test_a_prior_of_another_encoder_is_refused_where_it_says_so(tmp_path):
    folder = saved(made(), tmp_path / "known", {"encoder_hash": "a" * 64})
    assert prior_meta(folder) == {"encoder_hash": "a" * 64}
    warm_start(made(1, control=True), folder, encoder_hash="a" * 64)
    with pytest.raises(CheckpointError, match=r"another encoder \(aaaaaaaaaaaa, not bbbbbbbbbbbb\)"):
        warm_start(made(1, control=True), folder, encoder_hash="b" * 64)
    warm_start(made(1, control=True), saved(made(), tmp_path / "published"), encoder_hash="b" * 64)
