from __future__ import annotations

import pytest
import torch
from diffusers.models.transformers.prior_transformer import PriorTransformer
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from eclipse.errors import DataError
from eclipse.models.packing import pad
from eclipse.models.prior import EclipsePrior, seeded_noise

SMALL = {"embedding_dim": 12, "num_layers": 3, "num_attention_heads": 2, "attention_head_dim": 8}


def small(**more) -> EclipsePrior:
    torch.manual_seed(0)
    prior = EclipsePrior(**{**SMALL, **more}).double()
    # Large positional rows, so that a wrong one shows.
    nn.init.normal_(prior.positional_embedding)
    nn.init.normal_(prior.prd_embedding)
    return prior


def inputs(prior: EclipsePrior, lengths: list[int], seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(rows: int, width: int) -> torch.Tensor:
        return torch.randn(rows, width, generator=generator, dtype=torch.float64)

    width = prior.encoder_hidden_states_proj.in_features
    made = {"noise": draw(len(lengths), 12), "prompt_embeds": draw(len(lengths), 12)}
    made["text_states"] = draw(sum(lengths), width)
    if prior.embedding_control is not None:
        made["control_embeds"] = draw(len(lengths), 12)
    return made


def gradients(prior: nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    prior.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in prior.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ("width", "extras", "count"), [(768, 3, 33_143_040), (1280, 3, 34_193_152), (1280, 4, 34_849_536)]
)
def test_published_parameter_counts(width, extras, count):
    with torch.device("meta"):
        prior = EclipsePrior(width, additional_embeddings=extras)
    assert sum(p.numel() for p in prior.parameters()) == count
    assert sum(p.numel() for p in prior.state_dict().values()) == count


@pytest.mark.parametrize("extras", [3, 4])
def test_published_state_dict_names(extras):
    linear = {"proj_in", "embedding_proj", "encoder_hidden_states_proj", "norm_out", "proj_to_clip_embeddings"}
    linear |= {"embedding_control"} if extras == 4 else set()
    block = ["norm1", "attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "norm3", "ff.net.0.proj", "ff.net.2"]
    linear |= {f"transformer_blocks.{n}.{name}" for n in range(3) for name in block}
    wanted = {f"{name}.{kind}" for name in linear for kind in ("weight", "bias")}
    wanted |= {"clip_mean", "clip_std", "positional_embedding", "prd_embedding"}
    assert set(small(additional_embeddings=extras).state_dict()) == wanted


@given(
    lengths=st.lists(st.one_of(st.integers(1, 77), st.integers(2, 20)), min_size=1, max_size=9),
    extras=st.integers(3, 4),
    state_dim=st.sampled_from([None, 7]),
    row_tokens=st.sampled_from([16, 96, 128]),
)
@settings(max_examples=25, deadline=None)
def test_packed_equals_padded_in_loss_and_gradients(lengths, extras, state_dim, row_tokens):
    prior = small(additional_embeddings=extras, state_dim=state_dim)
    given_ = inputs(prior, lengths)
    target = torch.randn(len(lengths), 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    packed = prior(**given_, lengths=torch.tensor(lengths), row_tokens=row_tokens)
    states, mask = pad(given_.pop("text_states"), torch.tensor(lengths))
    padded = prior.forward_padded(**given_, text_states=states, mask=mask)
    losses = [(out - target).square().mean() for out in (packed, padded)]
    assert (packed - padded).abs().max() <= 1e-12
    assert (losses[0] - losses[1]).abs() <= 1e-12
    ours, theirs = (gradients(prior, loss) for loss in losses)
    for name, gradient in ours.items():
        assert (gradient - theirs[name]).abs().max() <= 1e-12, name


class _Pooled(nn.Module):
    """Stands in diffusers' time slot, so that its unmodified forward pass computes the λ sequence."""

    def __init__(self, token: torch.Tensor) -> None:
        super().__init__()
        self.token = token

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.token


def test_equals_diffusers_own_forward_pass_with_the_control_in_the_pooled_and_the_text_in_the_time_slot():
    prior = small(additional_embeddings=4)
    lengths = [5, 77, 1, 30]
    given_ = inputs(prior, lengths)
    theirs = PriorTransformer(**SMALL, additional_embeddings=4).double()
    weights = prior.state_dict()
    for kind in ("weight", "bias"):
        weights[f"embedding_proj.{kind}"] = weights.pop(f"embedding_control.{kind}")
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert not unexpected and all(name.startswith("time_embedding") for name in missing)
    theirs.time_embedding = _Pooled(prior.embedding_proj(given_["prompt_embeds"]))
    states, mask = pad(given_["text_states"], torch.tensor(lengths))
    wanted = theirs(given_["noise"], 0, given_["control_embeds"], states, mask).predicted_image_embedding
    assert (prior(**given_, lengths=torch.tensor(lengths)) - wanted).abs().max() <= 1e-12


def test_a_sample_does_not_feel_its_neighbours():
    prior = small()
    given_ = inputs(prior, [9, 4, 60])
    both = prior(**given_, lengths=torch.tensor([9, 4, 60]))
    alone = prior(given_["noise"][1:2], given_["prompt_embeds"][1:2], given_["text_states"][9:13], torch.tensor([4]))
    assert (both[1] - alone[0]).abs().max() <= 1e-13


def test_every_trained_parameter_gets_a_gradient_and_the_statistics_none():
    prior = small(additional_embeddings=4)
    prior(**inputs(prior, [3, 8]), lengths=torch.tensor([3, 8])).sum().backward()
    without = {name for name, p in prior.named_parameters() if p.grad is None}
    assert without == {"clip_mean", "clip_std"}
    assert not prior.clip_mean.requires_grad and not prior.clip_std.requires_grad


def test_learned_positions_start_at_kandinskys_scale():
    torch.manual_seed(0)
    prior = EclipsePrior(12, num_layers=1)
    assert prior.positional_embedding.std().item() == pytest.approx(0.01, rel=0.05)
    assert prior.prd_embedding.std().item() == pytest.approx(0.01, rel=0.2)


def test_bf16_autocast_stays_near_fp32_forward_and_backward():
    prior = small().float()
    lengths = torch.tensor([9, 4, 60])
    given_ = {name: value.float() for name, value in inputs(prior, lengths.tolist()).items()}
    exact = prior(**given_, lengths=lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = prior(**given_, lengths=lengths)
    assert torch.nn.functional.cosine_similarity(exact, rough.float()).min() > 0.99
    rough.float().square().mean().backward()
    assert torch.isfinite(prior.proj_in.weight.grad).all() and prior.proj_in.weight.grad.any()


@pytest.mark.parametrize(
    ("extras", "change", "match"),
    [
        (3, {"noise": torch.zeros(2, 11)}, r"noise: shape \(2, 11\)"),
        (3, {"prompt_embeds": torch.zeros(3, 12)}, "prompt_embeds"),
        (3, {"text_states": torch.zeros(11, 13)}, "same encoder"),
        (3, {"control_embeds": torch.zeros(2, 12)}, "no control token"),
        (4, {"control_embeds": None}, "zero pixels"),
        (4, {"control_embeds": torch.zeros(1, 12)}, "control_embeds: shape"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(extras, change, match):
    prior = small(additional_embeddings=extras)
    with pytest.raises(DataError, match=match):
        prior(**{**inputs(prior, [3, 8]), **change}, lengths=torch.tensor([3, 8]))


def test_short_padding_and_other_token_counts_are_refused():
    prior = small()
    given_ = inputs(prior, [3, 8])
    states, mask = pad(given_.pop("text_states"), torch.tensor([3, 8]), context=20)
    with pytest.raises(DataError, match="20 padded positions"):
        prior.forward_padded(**given_, text_states=states, mask=mask)
    with pytest.raises(DataError, match="additional_embeddings: 5"):
        small(additional_embeddings=5)


def test_diffusers_saves_and_loads_it(tmp_path):
    prior = small(state_dim=7)
    prior.save_pretrained(tmp_path)
    again = EclipsePrior.from_pretrained(tmp_path, torch_dtype=torch.float64)
    given_ = inputs(prior, [3, 8])
    assert torch.equal(again(**given_, lengths=torch.tensor([3, 8])), prior(**given_, lengths=torch.tensor([3, 8])))


def test_noise_belongs_to_its_seed():
    noise = seeded_noise(torch.tensor([3, 2**62, 3]), 5)
    assert noise.shape == (3, 5) and noise.dtype == torch.float32
    assert torch.equal(noise[0], noise[2]) and not torch.equal(noise[0], noise[1])
    assert torch.equal(noise[1], seeded_noise([2**62], 5)[0])


def test_compiled_blocks_equal_plain_ones_for_any_number_of_rows():
    torch.manual_seed(0)
    prior = EclipsePrior(8, 8, num_layers=3, num_attention_heads=2, attention_head_dim=4)
    batches = [torch.tensor(lengths) for lengths in ([3, 5], [70, 60, 50, 9], [2] * 40)]
    given = [(torch.randn(len(n), 8), torch.randn(len(n), 8), torch.randn(int(n.sum()), 8), n) for n in batches]
    plain = [prior(*inputs) for inputs in given]
    prior.compile_blocks(backend="aot_eager")
    compiled = [prior(*inputs) for inputs in given]
    for a, b in zip(plain, compiled, strict=True):
        torch.testing.assert_close(a, b)
    sum(x.square().sum() for x in compiled).backward()
    assert all(p.grad is not None for p in prior.parameters() if p.requires_grad)
