"""A batch of embeddings without padding, and the row arithmetic of ragged arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Subjects:
    """The S subject pictures of a batch, and the nouns that they stand for (λ-ECLIPSE, arXiv 2402.05195, §3.1).

    ``embeds`` float32 [S, P]: projected image vectors, not normalised. ``owner`` int64 [S], ascending: the sample in
    the batch; ``start`` and ``length`` int64 [S]: the noun's tokens in that sample's caption, BOS being token 0.
    """

    embeds: Tensor
    owner: Tensor
    start: Tensor
    length: Tensor

    def __len__(self) -> int:
        return len(self.owner)

    def to(self, device: torch.device | str) -> Subjects:
        """The same subjects on ``device``; the index vectors stay on the CPU, like a batch's lengths in training."""
        return Subjects(self.embeds.to(device, non_blocking=True), self.owner, self.start, self.length)


@dataclass(frozen=True)
class Batch:
    """B captioned images as the frozen CLIP sees them.

    ``text_states`` float32 [ΣL, D]: states after the final LayerNorm, real tokens only (BOS..EOS), one caption after
    another; ``lengths`` int64 [B]; ``prompt_embeds`` z_y and ``image_embeds`` z_x float32 [B, P]: projected, not
    normalised. A store of annotated data adds ``subjects``, and ``control_embeds`` float32 [B, P] of the edge maps.
    """

    text_states: Tensor
    lengths: Tensor
    prompt_embeds: Tensor
    image_embeds: Tensor
    subjects: Subjects | None = None
    control_embeds: Tensor | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on ``device``."""
        return Batch(
            self.text_states.to(device, non_blocking=True),
            self.lengths.to(device, non_blocking=True),
            self.prompt_embeds.to(device, non_blocking=True),
            self.image_embeds.to(device, non_blocking=True),
            None if self.subjects is None else self.subjects.to(device),
            None if self.control_embeds is None else self.control_embeds.to(device, non_blocking=True),
        )


def starts_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """First row of each piece when pieces of ``lengths`` int64 [N] lie one after another: int64 [N]."""
    return np.cumsum(lengths) - lengths


def ragged_rows(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows ``starts[i] .. starts[i] + lengths[i] - 1`` for every i, one after another: int64 [Σ lengths]."""
    within = np.arange(int(lengths.sum()), dtype=np.int64) - np.repeat(starts_of(lengths), lengths)
    return np.repeat(starts, lengths) + within
