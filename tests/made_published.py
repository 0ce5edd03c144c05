"""A tiny prior in its authors' layout: their config, their names of weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from eclipse.models.prior import EclipsePrior

WIDTH = 20
SIZE = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8}


def random_prior(tokens: int = 3, width: int = WIDTH) -> EclipsePrior:
    """Every weight random, the statistics too."""
    torch.manual_seed(tokens)
    prior = EclipsePrior(width, additional_embeddings=tokens, **SIZE).eval()
    with torch.no_grad():
        for value in prior.parameters():
            value.add_(torch.randn_like(value) * 0.1)
    return prior


def write_published(prior: EclipsePrior, folder: Path, **config: Any) -> Path:
    """As the authors' class writes it: diffusers' name, every argument, no width of text states."""
    sizes = ("embedding_dim", "num_layers", "num_attention_heads", "attention_head_dim", "num_embeddings")
    folder.mkdir(parents=True, exist_ok=True)
    told = {
        "_class_name": "PriorTransformer",
        "_diffusers_version": "0.23.1",
        **{key: prior.config[key] for key in (*sizes, "additional_embeddings")},
        "dropout": 0.0,
        "norm_in_type": None,
        "embedding_proj_norm_type": None,
        "encoder_hid_proj_type": "linear",
        "added_emb_type": "prd",
        "embedding_proj_dim": None,
        "clip_embed_dim": None,
        **config,
    }
    (folder / "config.json").write_text(json.dumps(told))
    save_file(prior.state_dict(), folder / "diffusion_pytorch_model.safetensors")
    return folder
