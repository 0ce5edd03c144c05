"""The authors' forward pass, read from their public inference code and written anew in plain torch.

Facts: eclipse-t2i/eclipse-inference src/priors/prior_transformer.py and the λ variant's lambda_prior_transformer.py.
No module of diffusers or of this project computes here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

ARGUMENTS = {
    "num_attention_heads", "attention_head_dim", "num_layers", "embedding_dim", "num_embeddings",
    "additional_embeddings", "dropout", "norm_in_type", "embedding_proj_norm_type", "encoder_hid_proj_type",
    "added_emb_type", "embedding_proj_dim", "clip_embed_dim",
}  # fmt: skip
"""Of their class's constructor; it takes no other."""


class Upstream:
    """Their model, loaded from a folder as ``from_pretrained`` does: config to constructor, weights by name."""

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        assert config.pop("_class_name") == "PriorTransformer"
        config.pop("_diffusers_version", None)
        assert set(config) == ARGUMENTS
        self.config: dict[str, Any] = config
        self.w = load_file(folder / "diffusion_pytorch_model.safetensors")
        self.control = "embedding_control.weight" in self.w
        assert {key: tuple(value.shape) for key, value in self.w.items()} == self._shapes()

    def __call__(
        self, noise: Tensor, pooled: Tensor, states: Tensor, mask: Tensor, control: Tensor | None = None
    ) -> Tensor:
        """``states`` [B, 77, P] padded, ``mask`` bool [B, 77]."""
        heads, extra = self.config["num_attention_heads"], self.config["additional_embeddings"]
        parts = [self._linear("encoder_hidden_states_proj", states)]
        if self.control:
            parts.append(self._linear("embedding_control", control)[:, None])
        parts += [self._linear("embedding_proj", pooled)[:, None], self._linear("proj_in", noise)[:, None]]
        parts.append(self.w["prd_embedding"].expand(len(noise), -1, -1))
        x = torch.cat(parts, dim=1) + self.w["positional_embedding"]
        total = x.shape[1]
        assert total == self.config["num_embeddings"] + extra
        bias = torch.zeros(len(noise), 1, total, total)
        bias += torch.triu(torch.full((total, total), -10000.0), 1)
        bias += F.pad((1 - mask.float()) * -10000.0, (0, extra))[:, None, None, :]
        for number in range(self.config["num_layers"]):
            x = self._block(f"transformer_blocks.{number}", x, bias, heads)
        last = self._norm("norm_out", x)[:, -1]
        return self._linear("proj_to_clip_embeddings", last)

    def _block(self, name: str, x: Tensor, bias: Tensor, heads: int) -> Tensor:
        h = self._norm(f"{name}.norm1", x)
        q, k, v = (
            self._linear(f"{name}.attn1.to_{kind}", h).unflatten(-1, (heads, -1)).transpose(1, 2) for kind in "qkv"
        )
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + bias
        attended = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + self._linear(f"{name}.attn1.to_out.0", attended)
        h = F.gelu(self._linear(f"{name}.ff.net.0.proj", self._norm(f"{name}.norm3", x)))
        return x + self._linear(f"{name}.ff.net.2", h)

    def _linear(self, name: str, x: Tensor | None) -> Tensor:
        assert x is not None
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def _norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.w[f"{name}.weight"], self.w[f"{name}.bias"], eps=1e-5)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """What their constructor makes."""
        p, heads = self.config["embedding_dim"], self.config["num_attention_heads"]
        w = heads * self.config["attention_head_dim"]
        n = self.config["num_embeddings"] + self.config["additional_embeddings"]
        linear = {"proj_in": (w, p), "embedding_proj": (w, p), "encoder_hidden_states_proj": (w, p)}
        linear |= {"proj_to_clip_embeddings": (p, w)} | ({"embedding_control": (w, p)} if self.control else {})
        norms = ["norm_out"]
        for number in range(self.config["num_layers"]):
            block = f"transformer_blocks.{number}"
            linear |= {f"{block}.attn1.to_{kind}": (w, w) for kind in ("q", "k", "v", "out.0")}
            linear |= {f"{block}.ff.net.0.proj": (4 * w, w), f"{block}.ff.net.2": (w, 4 * w)}
            norms += [f"{block}.norm1", f"{block}.norm3"]
        shapes: dict[str, tuple[int, ...]] = {"clip_mean": (1, p), "clip_std": (1, p)}
        shapes |= {"positional_embedding": (1, n, w), "prd_embedding": (1, 1, w)}
        for name, shape in linear.items():
            shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
        return shapes | {f"{name}.{kind}": (w,) for name in norms for kind in ("weight", "bias")}
