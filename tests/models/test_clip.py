"""The frozen CLIP against open_clip's own functions."""

import json
import math

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CLIP
from open_clip.transform import image_transform
from PIL import Image
from safetensors.torch import load_file, save_file

from eclipse.errors import CheckpointError, DataError
from eclipse.models.clip import CONFIG, WEIGHTS, FrozenClip, save_clip

RESNET = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}
VIT = {
    "embed_dim": 20,
    "vision_cfg": {"image_size": 56, "layers": 2, "width": 48, "head_width": 24, "mlp_ratio": 4.9231, "patch_size": 14},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 20, "heads": 2, "layers": 2},
}
CAPTIONS = ["a red star", "", "two pink striped hearts above a white cross, on a beige background", "ünïcode 😀"]


def build(config, seed=0):
    torch.manual_seed(seed)
    model = CLIP(**config)
    with torch.no_grad():
        model.logit_scale.fill_(math.log(100.0))
        model.ln_final.bias.normal_()
    # Batch norm in a state that only eval mode honours.
    model.train()
    for _ in range(3):
        model.visual(torch.randn(8, 3, *(config["vision_cfg"]["image_size"],) * 2) * 2 + 1)
    return model.eval()


@pytest.fixture(scope="module", params=["resnet", "vit"])
def saved(request, tmp_path_factory):
    config = {"resnet": RESNET, "vit": VIT}[request.param]
    model, folder = build(config), tmp_path_factory.mktemp(request.param)
    save_clip(model, config, folder, name=f"tiny-{request.param}")
    return config, model, folder


@pytest.fixture
def resnet_folder(tmp_path):
    save_clip(build(RESNET), RESNET, tmp_path)
    return tmp_path


@torch.no_grad()
def test_encodings_are_open_clips_own(saved):
    config, model, folder = saved
    clip = FrozenClip.load(folder)
    model.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in load_file(folder / WEIGHTS).items()}
    )
    tokens = open_clip.tokenize(CAPTIONS)
    assert torch.equal(clip.tokenize(CAPTIONS), tokens)
    text = clip.encode_text(tokens)
    torch.testing.assert_close(text.prompt_embeds, model.encode_text(tokens), atol=2e-5, rtol=1e-4)
    size = config["vision_cfg"]["image_size"]
    images = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)
    transform = image_transform(size, is_train=False)
    pixels = torch.stack([transform(Image.fromarray(image)) for image in images])
    torch.testing.assert_close(clip.preprocess(images), pixels, atol=1e-5, rtol=0)
    torch.testing.assert_close(clip.encode_image(images), model.encode_image(pixels), atol=2e-5, rtol=1e-4)
    assert clip.image_size == size
    assert clip.projection_dim == config["embed_dim"]
    assert clip.state_dim == config["text_cfg"]["width"]
    assert clip.context_length == 77
    assert clip.logit_scale == pytest.approx(100.0, rel=1e-6), "the scale must not be rounded to float16"


@torch.no_grad()
def test_text_states_follow_the_final_norm_and_ignore_padding(saved):
    _, _, folder = saved
    clip = FrozenClip.load(folder)
    tokens = clip.tokenize(CAPTIONS)
    text = clip.encode_text(tokens)
    assert text.lengths.tolist() == (tokens.argmax(1) + 1).tolist()
    x = clip.model.token_embedding(tokens) + clip.model.positional_embedding
    full = clip.model.ln_final(clip.model.transformer(x, attn_mask=clip.model.attn_mask))
    expected = torch.cat([states[:n] for states, n in zip(full, text.lengths, strict=True)])
    torch.testing.assert_close(text.text_states, expected, atol=2e-5, rtol=1e-4)
    starts = text.lengths.cumsum(0) - text.lengths
    torch.testing.assert_close(text.text_states[starts[1:]], text.text_states[:1].expand(3, -1), atol=1e-5, rtol=1e-4)


def test_pooled_vectors_are_projected_and_not_normalised(saved):
    _, _, folder = saved
    clip = FrozenClip.load(folder)
    text = clip.encode_text(clip.tokenize(CAPTIONS))
    ends = text.text_states[text.lengths.cumsum(0) - 1]
    torch.testing.assert_close(text.prompt_embeds, ends @ clip.model.text_projection)
    assert (text.prompt_embeds.norm(dim=1) - 1).abs().min() > 1e-2
    assert not text.prompt_embeds.requires_grad
    assert not text.prompt_embeds.is_inference()


def test_images_of_another_size_are_resized_as_by_open_clip(saved):
    config, _, folder = saved
    clip = FrozenClip.load(folder)
    size = config["vision_cfg"]["image_size"]
    y, x = np.mgrid[0:100, 0:140]
    image = np.stack([np.sin(x / 9) * 100 + 128, (y * 2.5) % 256, np.full_like(x, 30)], -1).astype(np.uint8)
    expected = image_transform(size, is_train=False)(Image.fromarray(image))
    step = 1 / 255 / 0.26  # one grey level after normalisation
    difference = (clip.preprocess(image[None])[0] - expected).abs()
    assert difference.max() <= 2.1 * step
    assert difference.mean() < 0.2 * step


def test_long_caption_is_refused_by_name_or_cut_when_asked(resnet_folder):
    clip = FrozenClip.load(resnet_folder)
    fits, long = " ".join(["red"] * 75), " ".join(["red"] * 76)
    assert clip.tokenize([fits]).argmax().item() == 76
    with pytest.raises(DataError, match=r"'red red .*78 tokens do not fit the context of 77"):
        clip.tokenize([fits, long])
    assert torch.equal(clip.tokenize([long], truncate=True), open_clip.tokenize([long]))
    with pytest.raises(DataError, match="marker"):
        clip.tokenize(["a <end_of_text> star"])


def test_loading_leaves_the_random_state_alone(resnet_folder):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    FrozenClip.load(resnet_folder)
    assert torch.equal(torch.rand(3), expected)


def test_weights_are_half_on_disk_and_the_hash_names_them(resnet_folder, tmp_path_factory):
    state = load_file(resnet_folder / WEIGHTS)
    assert state["token_embedding.weight"].dtype == torch.float16
    assert state["logit_scale"].dtype == state["visual.bn1.running_var"].dtype == torch.float32
    first = FrozenClip.load(resnet_folder)
    assert first.model.token_embedding.weight.dtype == torch.float32
    other = tmp_path_factory.mktemp("other")
    save_clip(build(RESNET, seed=1), RESNET, other)
    assert FrozenClip.load(other).weights_hash != first.weights_hash == FrozenClip.load(resnet_folder).weights_hash
    config = json.loads((resnet_folder / CONFIG).read_text())
    config["model_cfg"]["quick_gelu"] = True  # same weights, another function
    (resnet_folder / CONFIG).write_text(json.dumps(config))
    assert FrozenClip.load(resnet_folder).weights_hash != first.weights_hash


def test_foreign_missing_and_damaged_weights_are_refused(resnet_folder):
    path = resnet_folder / WEIGHTS
    state = load_file(path)
    save_file({**state, "foreign": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="foreign"):
        FrozenClip.load(resnet_folder)
    save_file({k: v for k, v in state.items() if k != "ln_final.bias"}, path)
    with pytest.raises(CheckpointError, match=r"ln_final\.bias"):
        FrozenClip.load(resnet_folder)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        FrozenClip.load(resnet_folder)
    path.unlink()
    with pytest.raises(DataError, match="no such file"):
        FrozenClip.load(resnet_folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"text_cfg": {**RESNET["text_cfg"], "no_causal_mask": True}}, "no_causal_mask"),
        ({"text_cfg": {**RESNET["text_cfg"], "hf_tokenizer_name": "x/y"}}, "Hugging Face"),
        ({"text_cfg": {**RESNET["text_cfg"], "tokenizer_kwargs": {"reduction_mask": "shuffle"}}}, "tokenizer_kwargs"),
        ({"custom_text": True}, "custom_text"),
        ({"text_cfg": {**RESNET["text_cfg"], "bogus": 1}}, "bogus"),
    ],
)
def test_configuration_that_priors_cannot_use_is_refused(resnet_folder, change, said):
    config = json.loads((resnet_folder / CONFIG).read_text())
    config["model_cfg"].update(change)
    (resnet_folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=said):
        FrozenClip.load(resnet_folder)


def test_images_of_another_type_are_refused(resnet_folder):
    with pytest.raises(DataError, match="uint8"):
        FrozenClip.load(resnet_folder).encode_image(np.zeros((1, 64, 64, 3), np.float32))


def test_span_of_a_noun_points_into_the_tokens(resnet_folder):
    clip = FrozenClip.load(resnet_folder)
    caption = "A wristwatch, beside 2 &amp; 3 Wristwatches"
    tokens = clip.tokenize([caption])[0]
    for noun in ("wristwatch", "Wristwatches"):
        first = caption.index(noun)
        start, length = clip.token_span(caption, (first, first + len(noun)))
        assert length == 2
        assert tokens[start : start + length].tolist() == clip.tokenize([noun])[0, 1:3].tolist()
    assert clip.token_span(caption, (2, 12)) == (2, 2)
    long = "red " * 74 + "star"
    assert clip.token_span(long, (296, 300)) == (75, 1), "the last place before EOS"
    with pytest.raises(DataError, match="'star' lies beyond the context of 77 tokens"):
        clip.token_span(f"red {long}", (300, 304))
