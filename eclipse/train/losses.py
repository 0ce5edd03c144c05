"""The training losses of ECLIPSE (arXiv 2312.04655, Eq. 3–5) and of its diffusion baseline (Eq. 1), and nothing else.

What the papers leave open is an argument here, never a default: ``reduction`` over dimensions ("mean" or "sum"; over
samples it is always the mean) and the ``temperature`` τ. Vectors are normalised inside the contrastive term only.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Reduction = Literal["mean", "sum"]


class Losses(NamedTuple):
    """Scalars of one (micro-)batch. Only ``total`` carries a gradient."""

    total: Tensor
    mse: Tensor
    contrastive: Tensor


def projection_loss(predicted: Tensor, target: Tensor, *, reduction: Reduction) -> Tensor:
    """Eq. 3: ‖z_x − ẑ_x‖², mean over samples.

    ``predicted`` and ``target``: float [B, P], as they are (not normalised). ``reduction`` "sum" is the squared norm as
    printed in the paper; "mean" divides it by P.
    """
    squared = (target - predicted).square()
    per_sample = squared.sum(dim=-1) if reduction == "sum" else squared.mean(dim=-1)
    return per_sample.mean()


def contrastive_loss(predicted: Tensor, text_embeds: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    """Eq. 4: −log softmax_j(cos(ẑ_x,i , z_y,j) / τ) at j = label of i, mean over i. One direction, softmax over texts.

    ``predicted``: float [B, P]; ``text_embeds``: float [N, P], the texts of the whole global batch, N ≥ B;
    ``labels``: int64 [B], the row of each prediction's own text. Texts come from a frozen encoder, so a rank that knows
    all N of them gets its exact share of the global gradient from its own B predictions.
    """
    cosine = F.normalize(predicted, dim=-1) @ F.normalize(text_embeds, dim=-1).T
    return F.cross_entropy(cosine / temperature, labels)


def eclipse_loss(
    predicted: Tensor,
    image_embeds: Tensor,
    text_embeds: Tensor,
    labels: Tensor,
    *,
    lam: float,
    temperature: float,
    reduction: Reduction,
) -> Losses:
    """Eq. 5: L = Eq. 3 + λ · Eq. 4. At λ = 0 (the Projection baseline) Eq. 4 is reported but not differentiated."""
    mse = projection_loss(predicted, image_embeds, reduction=reduction)
    with torch.set_grad_enabled(torch.is_grad_enabled() and lam > 0):
        contrastive = contrastive_loss(predicted, text_embeds, labels, temperature=temperature)
    total = mse + lam * contrastive if lam > 0 else mse
    return Losses(total, mse.detach(), contrastive.detach())


def diffusion_loss(predicted: Tensor, clean: Tensor, *, reduction: Reduction) -> Tensor:
    """Eq. 1: ‖z_x − φ(z_x^(t), t, z_y)‖², mean over samples: the network predicts the clean embedding itself (x0).

    ``predicted`` and ``clean``: float [B, P] in the normalised space (z − clip_mean) / clip_std, where noise was added.
    """
    return projection_loss(predicted, clean, reduction=reduction)
