"""Both forms at the published sizes: names and shapes on the meta device, vectors at full width with few layers."""

import shutil

import numpy as np
import open_clip
import pytest
import torch
from made_clips import as_pipeline, close, random_model
from open_clip.model import CLIP
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from eclipse.models.clip import FrozenClip
from eclipse.models.clip_forms import import_clip
from eclipse.models.clip_forms_config import canonical
from eclipse.models.clip_forms_map import mlp_ratio, model_config, pairs, to_open_clip, to_transformers, tower_configs

PUBLIC = {"ViT-L-14-quickgelu": 427_616_513, "ViT-bigG-14": 2_539_567_105}
"""Parameters; open_clip's docs/model_profile.csv rounds them to 427.62 M and 2539.57 M."""
HEADS = {"ViT-L-14-quickgelu": (12, 16), "ViT-bigG-14": (20, 16)}


@pytest.mark.parametrize("name", PUBLIC)
def test_published_sizes_have_both_forms(name):
    published = open_clip.get_model_config(name)
    model_cfg = canonical(published, name)
    with torch.device("meta"):
        ours, plain = CLIP(**model_cfg), CLIP(**published)
        text, vision = tower_configs(model_cfg)
        towers = [
            CLIPTextModelWithProjection(CLIPTextConfig(**text)),
            CLIPVisionModelWithProjection(CLIPVisionConfig(**vision)),
        ]
        state = {key: value for tower in towers for key, value in tower.state_dict().items()}
    assert sum(value.numel() for value in ours.parameters()) == PUBLIC[name]
    assert sum(value.numel() for value in state.values()) == PUBLIC[name] - 1, "all but the temperature"
    assert (text["num_attention_heads"], vision["num_attention_heads"]) == HEADS[name]
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    assert model_config(text, vision, shapes, name) == model_cfg
    mapping = [
        pair for pair in pairs(text["num_hidden_layers"], vision["num_hidden_layers"]) if pair.ours != "logit_scale"
    ]
    there = to_open_clip(mapping, state.__getitem__)
    assert {k: v.shape for k, v in there.items()} == {
        k: v.shape for k, v in plain.state_dict().items() if k != "logit_scale"
    }
    back = to_transformers(mapping, plain.state_dict().__getitem__)
    assert {k: tuple(v.shape) for k, v in back.items()} == shapes


@pytest.mark.parametrize(("width", "hidden", "ratio"), [(1664, 8192, 4.9231), (1024, 4096, 4.0), (1408, 6144, 4.36364)])
def test_mlp_ratios_are_as_short_as_they_can_be(width, hidden, ratio):
    """bigG and L as open_clip writes them; g, which it writes as 4.3637, comes out in one spelling too."""
    assert mlp_ratio(width, hidden) == ratio and int(width * ratio) == hidden


@pytest.mark.parametrize("hidden", range(101, 400, 7))
def test_any_hidden_width_survives_its_ratio(hidden):
    assert int(97 * mlp_ratio(97, hidden)) == hidden


FULL = {
    "text": {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 1, "num_attention_heads": 20},
    "vision": {
        "hidden_size": 1664, "intermediate_size": 8192, "num_hidden_layers": 1, "num_attention_heads": 16,
        "image_size": 224,
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("tower", "heads"), [("text", 64), ("vision", 104)])
@torch.no_grad()
def test_vectors_agree_at_full_width(tmp_path, tower, heads):
    """bigG's own widths and heads, one block of one tower at a time; its words are a few, which no matrix sees."""
    words = {"vocab_size": 600, "eos_token_id": 2}
    sizes = {tower: FULL[tower], "text": {**words, **(FULL["text"] if tower == "text" else {})}}
    model = random_model(dtype=torch.bfloat16, **sizes)
    as_pipeline(model, tmp_path / "in")
    model.float()
    import_clip(str(tmp_path / "in"), None, tmp_path / "out", logit_scale=100.0)
    clip = FrozenClip.load(tmp_path / "out", device="cpu")
    tokens = torch.zeros(3, 77, dtype=torch.int64)
    for row, length in zip(tokens, (5, 77, 2), strict=True):
        row[:length] = torch.randint(1, 599, (length,))
        row[length - 1] = 599
    ours, hidden = clip.encode_text(tokens), model.text_model(input_ids=tokens)
    close(ours.text_states, hidden.last_hidden_state[torch.arange(77) < ours.lengths[:, None]])
    close(ours.prompt_embeds, model.text_projection(hidden.pooler_output))
    size = clip.image_size
    images = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    pixels = clip.preprocess(images)
    close(clip.encode_image(images), model.get_image_features(pixel_values=pixels).pooler_output)
    blocks = clip.model.transformer if tower == "text" else clip.model.visual.transformer
    assert blocks.resblocks[0].attn.head_dim == heads
    shutil.rmtree(tmp_path)  # a quarter of a gigabyte
