"""Trains the mini MoVQ: diffusers' ``VQModel`` with spatial norm, 64 × 64 pixels ↔ 16 × 16 × 4 latents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import VQModel
from diffusers.models.attention_processor import SpatialNorm
from numpy.typing import NDArray
from torch import Tensor, nn

from eclipse.pretrain.fit import FitSettings, fit

MOVQ_CONFIG: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "block_out_channels": (32, 32, 64),
    "layers_per_block": 1,
    "latent_channels": 4,
    "vq_embed_dim": 4,
    "num_vq_embeddings": 256,
    "norm_type": "spatial",
    "norm_num_groups": 32,
    "mid_block_add_attention": False,
    "sample_size": 64,
}
LATENT_NOISE = 0.1  # of the latents' own spread, added in training: the decoder forgives small prediction errors


def to_signed(images: NDArray[np.uint8]) -> Tensor:
    """uint8 (N, H, W, 3) to float32 (N, 3, H, W) in [-1, 1], the range that diffusers' decoders produce."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def train_movq(images: NDArray[np.uint8], settings: FitSettings, checkpoint: Path) -> VQModel:
    """Reconstruction with noisy latents; the codebook is not used by Kandinsky's decoding and is fitted afterwards."""
    torch.manual_seed(settings.seed)
    model = VQModel(**MOVQ_CONFIG)
    model.quantize.requires_grad_(False)

    def loss_at(step: int, rng: np.random.Generator) -> Tensor:
        x = to_signed(images[rng.choice(len(images), settings.batch_size, replace=False)])
        with torch.autocast("cpu", torch.bfloat16):
            latents = model.encode(x).latents.float()
            noise = LATENT_NOISE * latents.detach().std() * torch.randn_like(latents)
            y = model.decode(latents + noise, force_not_quantize=True).sample
        y = y.float()
        edges = sum(((y - x).diff(dim=d)).abs().mean() for d in (2, 3))
        return F.l1_loss(y, x) + F.mse_loss(y, x) + 0.5 * edges + 1e-4 * latents.square().mean()

    trained = fit(model, loss_at, settings, checkpoint, name="movq").eval()
    assert isinstance(trained, VQModel)
    normalise_latents(trained, images[:1024])
    fit_codebook(trained, images[:512], settings.seed)
    return trained


@torch.no_grad()
def encode(model: VQModel, images: NDArray[np.uint8], batch_size: int = 64) -> Tensor:
    """Latents float32 (N, 4, 16, 16) of uint8 pictures, before quantisation, as the decoder UNet is trained on."""
    parts = [model.encode(to_signed(images[i : i + batch_size])).latents for i in range(0, len(images), batch_size)]
    return torch.cat(parts)


@torch.no_grad()
def normalise_latents(model: VQModel, images: NDArray[np.uint8]) -> None:
    """Fold zero mean and unit variance per latent channel into the 1 × 1 convolutions around the latents.

    ``KandinskyV22Pipeline`` hands the UNet's output to ``movq.decode`` unscaled, so the scale has to live in the
    weights: once where latents are made, and in each convolution that reads them (spatial norm reads them too).
    """
    latents = encode(model, images)
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    _affine_out(model.quant_conv, mean, std)
    readers = [model.post_quant_conv]
    for module in model.modules():
        if isinstance(module, SpatialNorm):
            readers += [module.conv_y, module.conv_b]
    for conv in readers:
        _affine_in(conv, mean, std)


def _affine_out(conv: nn.Conv2d, mean: Tensor, std: Tensor) -> None:
    assert conv.bias is not None
    conv.bias.copy_((conv.bias - mean) / std)
    conv.weight.div_(std[:, None, None, None])


def _affine_in(conv: nn.Conv2d, mean: Tensor, std: Tensor) -> None:
    assert conv.bias is not None
    conv.bias.add_((conv.weight * mean[None, :, None, None]).sum((1, 2, 3)))
    conv.weight.mul_(std[None, :, None, None])


@torch.no_grad()
def fit_codebook(model: VQModel, images: NDArray[np.uint8], seed: int, rounds: int = 8) -> None:
    """k-means over latent vectors, so that quantised decoding works as well (Kandinsky itself never quantises)."""
    points = encode(model, images).permute(0, 2, 3, 1).reshape(-1, model.config["latent_channels"])
    generator = torch.Generator().manual_seed(seed)
    codes = points[torch.randperm(len(points), generator=generator)[: model.config["num_vq_embeddings"]]]
    for _ in range(rounds):
        owner = torch.cdist(points, codes).argmin(1)
        count = torch.bincount(owner, minlength=len(codes)).clamp(min=1)
        sums = torch.zeros_like(codes).index_add_(0, owner, points)
        codes = torch.where((sums.abs().sum(1) > 0)[:, None], sums / count[:, None], codes)
    model.quantize.embedding.weight.copy_(codes)
