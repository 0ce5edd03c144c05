"""Trains the oracle on rendered scenes, some of them blurred or noisy as decoded pictures are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from eclipse.pretrain.fit import FitSettings, fit
from eclipse.world.oracle import HEADS, OracleNet, labels, pixels01
from eclipse.world.pool import Pool


def train_oracle(pool: Pool, settings: FitSettings, checkpoint: Path) -> OracleNet:
    """Cross-entropy on every head; half of each batch is degraded so that mild blur does not change the reading."""
    torch.manual_seed(settings.seed)
    net = OracleNet()
    target = labels(list(pool.scenes))

    def loss_at(step: int, rng: np.random.Generator) -> Tensor:
        index = rng.choice(len(pool.images), settings.batch_size, replace=False)
        pixels = degrade(pixels01(pool.images[index]))
        with torch.autocast("cpu", torch.bfloat16):
            logits, _ = net(pixels)
        where = torch.from_numpy(index)
        losses = [F.cross_entropy(logits[head].float(), target[head][where], ignore_index=-100) for head in HEADS]
        return torch.stack(losses).mean()

    return fit(net, loss_at, settings, checkpoint, name="oracle")  # type: ignore[return-value]


def degrade(pixels: Tensor) -> Tensor:
    """Shift by up to two pixels; then leave half of the batch alone, blur a quarter, add noise to a quarter."""
    n = len(pixels)
    dx, dy = torch.randint(-2, 3, (2,)).tolist()
    pixels = F.pad(pixels, (2, 2, 2, 2), mode="replicate")[:, :, 2 + dy : 66 + dy, 2 + dx : 66 + dx].clone()
    blurred = F.interpolate(F.interpolate(pixels[: n // 4], size=40, mode="bilinear"), size=64, mode="bilinear")
    pixels[: n // 4] = blurred
    noisy = slice(n // 4, n // 2)
    pixels[noisy] = (pixels[noisy] + 0.06 * torch.randn_like(pixels[noisy])).clamp(0, 1)
    return pixels
