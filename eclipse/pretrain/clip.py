"""Trains the mini CLIP: open_clip's own model class and tokenizer, on scenes, edge maps and crops."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from open_clip.model import CLIP
from torch import Tensor

from eclipse.pretrain.fit import FitSettings, fit
from eclipse.pretrain.pairs import Pairs

# Text width equals the projection width, as in ViT-bigG-14 and ViT-L/14, so a subject's projected image vector can
# stand among text states.
CLIP_CONFIG: dict[str, Any] = {
    "embed_dim": 96,
    "vision_cfg": {"image_size": 64, "layers": [2, 2, 2, 1], "width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 96, "heads": 4, "layers": 3},
}
LOGIT_SCALE = 100.0  # where OpenCLIP's large models end up


def build_clip(config: dict[str, Any], seed: int) -> CLIP:
    """A fresh model of ``config``, modalities in different cones and the temperature of a large trained CLIP."""
    torch.manual_seed(seed)
    model = CLIP(**config)
    with torch.no_grad():
        model.logit_scale.fill_(math.log(LOGIT_SCALE))
        model.ln_final.bias.normal_(0, 1.0)
        probe = model.visual(torch.randn(64, 3, *_size(config)))
        spread = (probe - probe.mean(0)).norm(dim=1).mean()
        _offset(model, spread)
    model.logit_scale.requires_grad_(False)
    return model


def _offset(model: CLIP, spread: Tensor) -> None:
    bias = model.visual.attnpool.c_proj.bias
    direction = F.normalize(torch.randn_like(bias), dim=0)
    bias.copy_(direction * spread * 2.0)


def _size(config: dict[str, Any]) -> tuple[int, int]:
    size = config["vision_cfg"]["image_size"]
    return (size, size)


def encode_text_short(model: CLIP, tokens: Tensor) -> Tensor:
    """``model.encode_text`` on the tokens up to the longest caption: causal attention makes the padding irrelevant."""
    tokens = tokens[:, : int(tokens.argmax(1).max()) + 1]
    n = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:n]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:n, :n]))
    return x[torch.arange(len(x)), tokens.argmax(1)] @ model.text_projection


def to_pixels(images: NDArray[np.uint8]) -> Tensor:
    """uint8 (N, H, W, 3) to open_clip's normalised float32 (N, 3, H, W)."""
    mean, std = torch.tensor(open_clip.OPENAI_DATASET_MEAN), torch.tensor(open_clip.OPENAI_DATASET_STD)
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(255)
    return (x - mean[:, None, None]) / std[:, None, None]


def shift(images: NDArray[np.uint8], rng: np.random.Generator, reach: int = 2) -> NDArray[np.uint8]:
    """Move each picture by up to ``reach`` pixels (edges repeated): cheap augmentation."""
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    h, w = images.shape[1:3]
    moves = rng.integers(0, 2 * reach + 1, (len(images), 2))
    return np.stack([p[y : y + h, x : x + w] for p, (y, x) in zip(padded, moves, strict=True)])


def train_clip(pairs: Pairs, settings: FitSettings, checkpoint: Path, config: dict[str, Any] = CLIP_CONFIG) -> CLIP:
    """Symmetric InfoNCE on the captioned pictures ``pairs``; half of a batch is the other half's hard negatives."""
    model = build_clip(config, settings.seed)
    tokenizer = open_clip.tokenizer.SimpleTokenizer(context_length=config["text_cfg"]["context_length"])
    labels = torch.arange(settings.batch_size)

    def loss_at(step: int, rng: np.random.Generator) -> Tensor:
        index = pairs.draw(rng, settings.batch_size)
        tokens = tokenizer([pairs.caption(int(i), rng) for i in index])
        with torch.autocast("cpu", torch.bfloat16):
            image = model.encode_image(to_pixels(shift(pairs.images[index], rng)))
        text = encode_text_short(model, tokens)
        logits = model.logit_scale.exp() * F.normalize(image.float(), dim=1) @ F.normalize(text, dim=1).T
        return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2

    fit(model, loss_at, settings, checkpoint, name="clip").eval()
    rescale(model, pairs.images[:2048])
    open_gap(model, pairs.images[:2048], settings.seed)
    return model


@torch.no_grad()
def open_gap(model: CLIP, images: NDArray[np.uint8], seed: int) -> None:
    """Move all z_x by one constant vector, as far as they spread, so that the modalities lie in different cones.

    Large CLIPs keep the gap that their initialisation gave them (Liang et al., 2022); trained to convergence on a
    small world, CLIP closes it, and the contrastive term of a prior would then pull nowhere but towards the image.
    """
    z = encode_images(model, images)
    mean, spread = z.mean(0), z.var(0).sum()
    direction = torch.randn(len(mean), generator=torch.Generator().manual_seed(seed))
    direction -= direction @ mean / (mean @ mean) * mean
    length = (spread - mean @ mean).clamp(min=0).sqrt()
    model.visual.attnpool.c_proj.bias.add_(F.normalize(direction, dim=0) * length)


@torch.no_grad()
def encode_images(model: CLIP, images: NDArray[np.uint8]) -> Tensor:
    """z_x float32 (N, P) of uint8 pictures; the model must be in eval mode."""
    return torch.cat([model.encode_image(to_pixels(images[i : i + 256])) for i in range(0, len(images), 256)])


@torch.no_grad()
def rescale(model: CLIP, images: NDArray[np.uint8]) -> None:
    """Scale the image projection so that z_x has unit variance per dimension on average; cosines do not change."""
    z = encode_images(model, images)
    factor = (z.var(0).mean() ** -0.5).item()
    model.visual.attnpool.c_proj.weight.mul_(factor)
    model.visual.attnpool.c_proj.bias.mul_(factor)
