"""How each method turns one part of a batch into its loss: the only difference between trainings of the sweep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from eclipse.embeddings.batch import Batch
from eclipse.errors import DataError
from eclipse.models.interleave import interleave
from eclipse.train.losses import Losses, Reduction, eclipse_loss

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

    ``uniform`` float32 [B, 2] in [0, 1): the diffusion baseline's time, and what is dropped: its captions, or
    λ-ECLIPSE's edges.
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
        return _eclipse_losses(self.terms, self.lam, predicted, part, targets), predicted.detach()


@dataclass(frozen=True)
class LambdaObjective:
    """λ-ECLIPSE (arXiv 2402.05195, §3): Eq. 5 with subjects' pictures in the places of their nouns' text states.

    The pooled text stays that of the words, as the prior's input and as the contrastive target z_y. The control token
    is the picture's ``control_embeds`` where ``edges`` are trained, exchanged for ``nothing`` (the zero-pixel image's
    embedding, float [P]) in a share ``control_drop`` of the samples; without ``edges`` it is ``nothing`` always.
    """

    terms: Terms
    lam: float
    nothing: Tensor
    edges: bool
    control_drop: float

    def module(self, prior: nn.Module) -> nn.Module:
        """The prior itself."""
        return prior

    def __call__(self, forward: Forward, part: Batch, targets: Targets, draw: Draw) -> tuple[Losses, Tensor]:
        """Predict from noise, interleaved caption and control; Eq. 5."""
        noise = draw.noise.to(part.prompt_embeds.dtype)
        predicted = forward(
            noise,
            part.prompt_embeds,
            _interleaved(part),
            part.lengths,
            control_embeds=self._control(part, draw),
            row_tokens=self.terms.row_tokens,
        )
        return _eclipse_losses(self.terms, self.lam, predicted, part, targets), predicted.detach()

    def _control(self, part: Batch, draw: Draw) -> Tensor:
        nothing = self.nothing.to(part.image_embeds).expand_as(part.image_embeds)
        if not self.edges:
            return nothing
        if part.control_embeds is None:
            raise DataError("control_embeds: the batch has none; embed the annotated dataset again")
        dropped = draw.uniform[:, 1] < self.control_drop
        return torch.where(dropped[:, None], nothing, part.control_embeds)


def _interleaved(part: Batch) -> Tensor:
    subjects = part.subjects
    if subjects is None:
        raise DataError("subjects: the batch has none; annotate the dataset and embed it again")
    return interleave(part.text_states, part.lengths, subjects.embeds, subjects.owner, subjects.start, subjects.length)


def _eclipse_losses(terms: Terms, lam: float, predicted: Tensor, part: Batch, targets: Targets) -> Losses:
    return eclipse_loss(
        predicted,
        part.image_embeds,
        targets.texts,
        targets.labels,
        lam=lam,
        temperature=terms.temperature,
        reduction=terms.reduction,
    )
