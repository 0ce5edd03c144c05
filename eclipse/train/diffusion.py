"""The diffusion baseline's objective. A module of its own: only this method needs diffusers' PriorTransformer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.models.transformers.prior_transformer import PriorTransformer
from torch import Tensor, nn

from eclipse.embeddings.batch import Batch
from eclipse.models.diffusion import denoise, drop_condition, normalise, schedule
from eclipse.train.losses import Losses, contrastive_loss, diffusion_loss
from eclipse.train.objective import Draw, Forward, Targets, Terms


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
