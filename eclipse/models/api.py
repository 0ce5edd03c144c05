"""One call that predicts image embeddings with any prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from eclipse.errors import DataError
from eclipse.models.checkpoint import Prior
from eclipse.models.prior import EclipsePrior, seeded_noise


class Captions(Protocol):
    """Encoded captions: what a store's batch and a text encoding have in common."""

    @property
    def text_states(self) -> Tensor:
        """Packed text states, float [ΣL, D]."""

    @property
    def lengths(self) -> Tensor:
        """Real tokens of each caption, int64 [B]."""

    @property
    def prompt_embeds(self) -> Tensor:
        """Projected pooled text, not normalised, float [B, P]."""


@torch.no_grad()
def predict(
    prior: Prior,
    captions: Captions,
    *,
    seeds: Tensor | Sequence[int],
    control_embeds: Tensor | None = None,
    diffusion_steps: int = 25,
    guidance: float = 4.0,
    row_tokens: int = 128,
) -> Tensor:
    """Image embeddings ẑ_x, float32 [B, P] on the prior's device, neither normalised nor scaled: as decoders take them.

    ``seeds`` int64 [B]: each sample's noise is drawn from its own seed, so what else is in the batch changes a result
    by rounding at most. ``diffusion_steps`` and ``guidance`` matter to the diffusion baseline only. A result that is
    not finite is a DataError: the input or the weights were not.
    """
    device = prior.device
    if len(seeds) != len(captions.lengths):
        raise DataError(f"seeds: {len(seeds)} for {len(captions.lengths)} captions; give one a caption")
    pooled, states = captions.prompt_embeds.to(device), captions.text_states.to(device)
    lengths = captions.lengths.cpu()
    if isinstance(prior, EclipsePrior):
        noise = seeded_noise(seeds, pooled.shape[1]).to(device)
        control = None if control_embeds is None else control_embeds.to(device)
        embeds = prior(noise, pooled, states, lengths, control_embeds=control, row_tokens=row_tokens)
    else:
        from eclipse.models.diffusion import sample

        if control_embeds is not None:
            raise DataError("control_embeds: the diffusion prior has no control token; leave it out")
        embeds = sample(
            prior, pooled, states, lengths, seeds=seeds, steps=diffusion_steps, guidance=guidance, row_tokens=row_tokens
        )
    if not bool(torch.isfinite(embeds).all()):
        raise DataError(
            "image_embeds: the prior's output is not finite; check the captions' embeddings and its weights"
        )
    return embeds.float()
