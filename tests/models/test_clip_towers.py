"""Lower precision and compiling against the plain float32 towers."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from open_clip.model import CLIP
from torch._dynamo.testing import CompileCounter

from eclipse.errors import ConfigError
from eclipse.models.clip import FrozenClip
from eclipse.models.clip_towers import DTYPES, Towers, row_bucket

MINI = Path(__file__).parents[2] / "models" / "mini" / "clip"
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 6}
VIT = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 56, "layers": 6, "width": 128, "head_width": 32, "patch_size": 14},
    "text_cfg": TEXT,
}
RESNET = {**VIT, "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32}}
CPU = torch.device("cpu")


def vit(config=VIT):
    torch.manual_seed(0)
    return CLIP(**config).eval().requires_grad_(False)


def resnet():
    return vit(RESNET)


def mini():
    return FrozenClip.load(MINI, device="cpu").model


def inputs(size, rows=5, width=20):
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, 49000, (rows, width), generator=generator)
    return tokens, torch.randn(rows, 3, size, size, generator=generator)


def relative(found, wanted):
    return ((found - wanted).norm(dim=-1) / wanted.norm(dim=-1)).mean().item()


def rounded_throughout(model, dtype, tokens, pixels):
    """The usual way: all weights, and so the sums between the blocks, in the lower type."""
    model = copy.deepcopy(model).to(dtype)
    width = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:width]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:width, :width]))
    return x.float(), model.visual(pixels.to(dtype)).float()


@pytest.mark.parametrize(("precision", "limit"), [("bf16", 8e-3), ("fp16", 2e-3)])
@pytest.mark.parametrize(("make", "size"), [(vit, 56), (mini, 64)])
@torch.no_grad()
def test_lower_precision_is_near_and_nearer_than_rounding_throughout(make, size, precision, limit):
    model = make()
    tokens, pixels = inputs(size)
    plain = Towers(copy.deepcopy(model), "fp32", False, CPU)
    lowered = Towers(copy.deepcopy(model), precision, False, CPU)
    wanted = plain.text(tokens), plain.image(pixels)
    found = lowered.text(tokens), lowered.image(pixels)
    usual = rounded_throughout(model, DTYPES[precision], tokens, pixels)
    for mine, other, truth in zip(found, usual, wanted, strict=True):
        assert mine.dtype == torch.float32
        assert mine.shape == truth.shape
        assert 0 < relative(mine, truth) < limit, "it must be used, and be near"
        assert relative(mine, truth) < relative(other, truth)


@torch.no_grad()
def test_norms_and_projections_stay_float32():
    model = vit()
    projection = model.visual.proj.clone()
    Towers(model, "fp16", False, CPU)
    assert model.transformer.resblocks[0].mlp.c_fc.weight.dtype == torch.float16
    assert model.transformer.resblocks[0].attn.in_proj_weight.dtype == torch.float16
    assert model.visual.conv1.weight.dtype == torch.float16
    kept = (model.transformer.resblocks[0].ln_1.weight, model.ln_final.weight, model.text_projection)
    assert all(parameter.dtype == torch.float32 for parameter in kept)
    assert model.visual.proj is None and projection.dtype == torch.float32


def test_without_compiling_nothing_is_padded():
    model, seen = vit(), []
    model.transformer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    model.visual.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    towers = Towers(model, "fp32", False, CPU)
    tokens, pixels = inputs(56, rows=5, width=17)
    towers.text(tokens), towers.image(pixels)
    assert seen == [(5, 17, 64), (5, 3, 56, 56)]


@pytest.mark.slow
@pytest.mark.parametrize(("make", "size", "precision"), [(vit, 56, "fp32"), (vit, 56, "bf16"), (resnet, 32, "fp32")])
@torch.no_grad()
def test_compiled_towers_say_the_same(make, size, precision):
    torch._dynamo.reset()
    model = make()
    plain = Towers(copy.deepcopy(model), precision, False, CPU)
    compiled = Towers(copy.deepcopy(model), precision, "aot_eager", CPU)
    near = {"fp32": {"atol": 1e-4, "rtol": 1e-4}, "bf16": {"atol": 5e-2, "rtol": 2e-2}}[precision]
    for rows, width in ((5, 17), (6, 70)):
        tokens, pixels = inputs(size, rows, width)
        torch.testing.assert_close(compiled.text(tokens), plain.text(tokens), **near)
        torch.testing.assert_close(compiled.image(pixels), plain.image(pixels), **near)


@pytest.mark.slow
@torch.no_grad()
def test_a_few_kernels_serve_every_length_and_every_layer():
    torch._dynamo.reset()
    counter = CompileCounter()
    towers = Towers(vit(), "fp32", counter, CPU)
    for width in (3, 9, 16, 18, 24, 25, 33, 47, 50, 64, 70, 77):
        towers.text(inputs(56, 6, width)[0])
    for rows in (5, 6):
        towers.image(inputs(56, rows)[1])
    assert counter.frame_count == 6 + 1, "one for each width bucket and one for the pictures, whatever the layers"


@torch.no_grad()
def test_a_short_context_is_padded_no_further_than_it_reaches():
    torch._dynamo.reset()
    model = vit({**VIT, "text_cfg": {**TEXT, "context_length": 20, "layers": 1}})
    plain, compiled = Towers(copy.deepcopy(model), "fp32", False, CPU), Towers(model, "fp32", CompileCounter(), CPU)
    for width in (5, 18, 20):
        tokens = inputs(56, 2, width)[0]
        torch.testing.assert_close(compiled.text(tokens), plain.text(tokens), atol=1e-4, rtol=1e-4)


def test_missing_compiler_is_named():
    def broken(graph, example_inputs):
        raise RuntimeError("InvalidCxxCompiler: no working C++ compiler")

    with pytest.raises(ConfigError, match=r"store\.compile: torch\.compile fails .*no working.*set it to false"):
        Towers(vit(), "fp32", broken, CPU).text(inputs(56)[0])


def test_unknown_precision_is_named():
    with pytest.raises(ConfigError, match=r"store\.precision='fp8'"):
        Towers(vit(), "fp8", False, CPU)


@given(st.integers(1, 100_000))
def test_row_buckets_are_few_and_close(rows):
    bucket = row_bucket(rows)
    assert rows <= bucket <= max(rows * 1.5, 2)
    assert bucket in {1 << i for i in range(18)} | {3 << i for i in range(17)}
    assert row_bucket(bucket) == bucket


@torch.no_grad()
def test_frozen_clip_takes_both_and_stays_float32_outside():
    plain, lowered = FrozenClip.load(MINI, device="cpu"), FrozenClip.load(MINI, device="cpu", precision="bf16")
    captions = ["a red star", "two blue striped circles on a white background"]
    wanted, found = plain.encode_text(plain.tokenize(captions)), lowered.encode_text(lowered.tokenize(captions))
    assert found.text_states.dtype == found.prompt_embeds.dtype == torch.float32
    assert found.lengths.tolist() == wanted.lengths.tolist()
    assert 0 < relative(found.text_states, wanted.text_states) < 1e-2
    assert 0 < relative(found.prompt_embeds, wanted.prompt_embeds) < 1e-2
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    assert 0 < relative(lowered.encode_image(images), plain.encode_image(images)) < 1e-2
    assert 0 < relative(lowered.encode_nothing(), plain.encode_nothing()) < 1e-2
    assert lowered.weights_hash == plain.weights_hash
    assert lowered.precision == "bf16"
