"""One tiny random CLIP in the three forms that CLIPs are published in."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextModelWithProjection,
    CLIPVisionModelWithProjection,
)

from eclipse.models.clip_forms_words import write_tokenizer

TEXT = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {
    "hidden_size": 48, "intermediate_size": 236, "num_hidden_layers": 3, "num_attention_heads": 2,
    "image_size": 56, "patch_size": 14,
}  # fmt: skip
SCALE = 73.5


def random_model(act: str = "gelu", dtype: torch.dtype = torch.float32, **changes: Any) -> CLIPModel:
    """transformers' own class. Every weight is random, biases and norms too, so that none can be mixed up unseen."""
    torch.manual_seed(0)
    shared = {"hidden_act": act, "projection_dim": 20}
    config = CLIPConfig(
        text_config={**TEXT, **shared, **changes.get("text", {})},
        vision_config={**VISION, **shared, **changes.get("vision", {})},
        projection_dim=20,
    )
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.add_(torch.randn_like(value) * (0.1 if value.ndim == 1 else 0.02))
            if name == "logit_scale":
                value.fill_(math.log(SCALE))
    return model.to(dtype)


def as_transformers(model: CLIPModel, folder: Path, **save: Any) -> Path:
    """Form (b), as transformers itself writes it."""
    model.save_pretrained(folder, **save)
    write_tokenizer(folder, 77)
    processor(model).save_pretrained(folder)
    return folder


def as_pipeline(model: CLIPModel, folder: Path) -> Path:
    """Form (c): the two towers by transformers' own classes."""
    text = CLIPTextModelWithProjection(model.config.text_config)
    vision = CLIPVisionModelWithProjection(model.config.vision_config)
    state = model.state_dict()
    for tower, name in ((text, "text_encoder"), (vision, "image_encoder")):
        tower.to(model.dtype).load_state_dict({key: state[key] for key in tower.state_dict()})
        tower.save_pretrained(folder / name)
    write_tokenizer(folder / "tokenizer", 77)
    processor(model).save_pretrained(folder / "image_processor")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "KandinskyV22PriorPipeline"}))
    return folder


def as_open_clip(model: CLIPModel, folder: Path) -> Path:
    """Form (a), its weights put together here by hand and by open_clip's own class, not by the code under test."""
    text, vision = model.config.text_config, model.config.vision_config
    config = {
        "embed_dim": 20,
        **({"quick_gelu": True} if text.hidden_act == "quick_gelu" else {}),
        "vision_cfg": {
            "image_size": vision.image_size, "layers": vision.num_hidden_layers, "width": vision.hidden_size,
            "head_width": vision.hidden_size // vision.num_attention_heads,
            "mlp_ratio": round(vision.intermediate_size / vision.hidden_size, 4), "patch_size": vision.patch_size,
        },
        "text_cfg": {
            "context_length": 77, "vocab_size": 49408, "width": text.hidden_size,
            "heads": text.num_attention_heads, "layers": text.num_hidden_layers,
        },
    }  # fmt: skip
    clip = CLIP(**config).eval().to(model.dtype)
    with torch.no_grad():
        clip.logit_scale.copy_(model.logit_scale)
        clip.positional_embedding.copy_(model.text_model.embeddings.position_embedding.weight)
        clip.token_embedding.load_state_dict(model.text_model.embeddings.token_embedding.state_dict())
        clip.text_projection.copy_(model.text_projection.weight.T)
        clip.ln_final.load_state_dict(model.text_model.final_layer_norm.state_dict())
        clip.visual.class_embedding.copy_(model.vision_model.embeddings.class_embedding)
        clip.visual.positional_embedding.copy_(model.vision_model.embeddings.position_embedding.weight)
        clip.visual.conv1.load_state_dict(model.vision_model.embeddings.patch_embedding.state_dict())
        clip.visual.proj.copy_(model.visual_projection.weight.T)
        clip.visual.ln_pre.load_state_dict(model.vision_model.pre_layrnorm.state_dict())
        clip.visual.ln_post.load_state_dict(model.vision_model.post_layernorm.state_dict())
    _blocks(clip.transformer.resblocks, model.text_model.encoder.layers)
    _blocks(clip.visual.transformer.resblocks, model.vision_model.encoder.layers)
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    save_file(
        {key: value.contiguous() for key, value in clip.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    return folder


@torch.no_grad()
def _blocks(ours: Any, theirs: Any) -> None:
    for block, layer in zip(ours, theirs, strict=True):
        attention = layer.self_attn
        for kind in ("weight", "bias"):
            fused = [getattr(part, kind) for part in (attention.q_proj, attention.k_proj, attention.v_proj)]
            getattr(block.attn, f"in_proj_{kind}").copy_(torch.cat(fused))
        block.attn.out_proj.load_state_dict(attention.out_proj.state_dict())
        block.ln_1.load_state_dict(layer.layer_norm1.state_dict())
        block.ln_2.load_state_dict(layer.layer_norm2.state_dict())
        block.mlp.c_fc.load_state_dict(layer.mlp.fc1.state_dict())
        block.mlp.c_proj.load_state_dict(layer.mlp.fc2.state_dict())


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    """Assert that vectors of two forms agree, to 1e-5."""
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def processor(model: CLIPModel) -> CLIPImageProcessor:
    size = model.config.vision_config.image_size
    return CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size})


def rewrite(file: Path, change: Any) -> None:
    """Change a safetensors file: ``change`` takes its tensors and returns those to keep."""
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
