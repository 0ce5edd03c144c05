"""How each method turns one part of a batch into its loss: the only difference between trainings of the sweep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from diffusers.models.transformers.prior_transformer import PriorTransformer
from torch import Tensor, nn

from eclipse.embeddings.batch import Batch
from eclipse.models.diffusion import denoise, drop_condition, normalise, schedule
from eclipse.train.losses import Losses, Reduction, contrastive_loss, diffusion_loss, eclipse_loss

Forward = Callable[..., Tensor]
"""The prior's forward pass, with autocast and gradient synchronisation as the loop wants them."""


@dataclass(frozen=True)
class Targets:
    """What a part's predictions are compared with.

    ``texts``: z_y of the global batch, float [N, P]. ``labels``: int64 [B], the row of each prediction's text in it.
    """

    texts: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Draw:
    """The random part of a global batch, cut like the batch. ``noise`` ε ~ N(0, I) float32 [B, P].

    ``uniform`` float32 [B, 2] in [0, 1): diffusion time and caption dropping, which only the baseline uses.
    """

    noise: Tensor
    uniform: Tensor

    def __getitem__(self, rows: slice) -> Draw:
        return Draw(self.noise[rows], self.uniform[rows])


def draw(seed: int, step: int, batch_size: int, width: int, device: torch.device) -> Draw:
    """All randomness of a step as a function of (seed, step, position in the global batch), whatever the world size.

    CPU and CUDA generators give different numbers for the same seed.
    """
    key = int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    generator = torch.Generator(device).manual_seed(key)
    return Draw(
        noise=torch.randn(batch_size, width, generator=generator, device=device),
        uniform=torch.rand(batch_size, 2, generator=generator, device=device),
    )


@dataclass(frozen=True)
class Terms:
    """Conventions that all methods share: τ, the reduction over dimensions, and the length of a packed row."""

    temperature: float
    reduction: Reduction
    row_tokens: int


class Objective(Protocol):
    """One method: the losses of a part, and its predictions ẑ_x, float [B, P], in the space of image embeddings."""

    def module(self, prior: nn.Module) -> nn.Module:
        """The module whose forward pass is ``Forward``."""

    def __call__(self, forward: Forward, part: Batch, targets: Targets, draw: Draw) -> tuple[Losses, Tensor]:
        """Losses and predictions of ``part``."""


@dataclass(frozen=True)
class EclipseObjective:
    """Eq. 5 on one forward pass; with ``lam`` = 0 the Projection baseline."""

    terms: Terms
    lam: float

    def module(self, prior: nn.Module) -> nn.Module:
        """The prior itself."""
        return prior

    def __call__(self, forward: Forward, part: Batch, targets: Targets, draw: Draw) -> tuple[Losses, Tensor]:
        """Predict from noise and caption; Eq. 5."""
        noise = draw.noise.to(part.prompt_embeds.dtype)
        predicted = forward(noise, part.prompt_embeds, part.text_states, part.lengths, row_tokens=self.terms.row_tokens)
        losses = eclipse_loss(
            predicted,
            part.image_embeds,
            targets.texts,
            targets.labels,
            lam=self.lam,
            temperature=self.terms.temperature,
            reduction=self.terms.reduction,
        )
        return losses, predicted.detach()


@dataclass(frozen=True)
class DiffusionObjective:
    """Eq. 1 at a random time of each sample. ``prior`` lends its normalisation and schedule only.

    Eq. 4 is reported for comparison (of the x0 estimate, mapped back to image embeddings) and never trained on.
    """

    terms: Terms
    prior: PriorTransformer
    condition_drop: float

    def module(self, prior: nn.Module) -> nn.Module:
        """The prior behind its packed forward pass, as a module of its own for DDP."""
        return _Denoiser(prior)

    def __call__(self, forward: Forward, part: Batch, targets: Targets, draw: Draw) -> tuple[Losses, Tensor]:
        """Noise the images, drop some captions, predict x0; Eq. 1."""
        scheduler = schedule(self.prior)
        steps = scheduler.config.num_train_timesteps
        times = (draw.uniform[:, 0] * steps).long().clamp(max=steps - 1)
        clean = normalise(self.prior, part.image_embeds)
        noisy = scheduler.add_noise(clean, draw.noise.to(clean.dtype), times)
        dropped = draw.uniform[:, 1] < self.condition_drop
        condition = drop_condition(part.prompt_embeds, part.text_states, part.lengths, dropped)
        estimate = forward(noisy, times, *condition, row_tokens=self.terms.row_tokens)
        loss = diffusion_loss(estimate, clean, reduction=self.terms.reduction)
        with torch.no_grad():
            predicted: Tensor = self.prior.post_process_latents(estimate)
            contrastive = contrastive_loss(predicted, targets.texts, targets.labels, temperature=self.terms.temperature)
        return Losses(loss, loss.detach(), contrastive), predicted


class _Denoiser(nn.Module):
    def __init__(self, prior: nn.Module) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, *args: Tensor, row_tokens: int) -> Tensor:
        return denoise(self.prior, *args, row_tokens=row_tokens)
