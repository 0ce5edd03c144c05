"""Interpolation between 2 or 4 corners (arXiv 2402.05195: linear in image embeddings, with a fixed decoder seed)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eclipse.errors import DataError

Mode = Literal["linear", "slerp"]
Between = Callable[[Tensor, Tensor, float], Tensor]

_PARALLEL = 1e-7  # sine below which two float32 vectors span no plane to turn in


def linear(a: Tensor, b: Tensor, t: float) -> Tensor:
    """``(1 - t) a + t b`` of tensors of one shape; exactly ``a`` at 0 and ``b`` at 1."""
    return (1 - t) * a + t * b


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Vectors [P]: the direction turns evenly along the great circle, the norm changes linearly; exact at 0 and 1.

    Embeddings are not normalised, hence the two parts. Opposite directions have no shortest way: the one through the
    axis that ``a`` is nearest to being orthogonal to is taken, the same each time. A zero vector has no direction and
    borrows the other's, which is linear interpolation.
    """
    if t in (0.0, 1.0):
        return (b if t else a).clone()
    long_a, long_b = a.double().norm(), b.double().norm()
    if long_a == 0 or long_b == 0:
        return linear(a.double(), b.double(), t).to(a.dtype)
    from_, to = a.double() / long_a, b.double() / long_b
    cosine = from_ @ to
    across = to - cosine * from_
    sine = across.norm()
    if sine < _PARALLEL:
        if cosine > 0:
            return linear(a.double(), b.double(), t).to(a.dtype)
        across = torch.zeros_like(from_)
        across[from_.abs().argmin()] = 1
        across = across - (across @ from_) * from_
    angle = t * torch.atan2(sine, cosine)
    direction = torch.cos(angle) * from_ + torch.sin(angle) * across / across.norm()
    return (direction * linear(long_a, long_b, t)).to(a.dtype)


BETWEEN: dict[Mode, Between] = {"linear": linear, "slerp": slerp}


def grid(corners: Tensor, steps: int, mode: Mode = "linear") -> Tensor:
    """All points between ``corners``, in their dtype.

    2 corners [2, …] → one row [1, steps, …]; 4 corners [4, …], in reading order (top left, top right, bottom left,
    bottom right) → [steps, steps, …], bilinear; slerp, which takes vectors, is nested: along the top and the bottom
    edge first, then between the two. Corners come out bit for bit.
    """
    between = BETWEEN[mode]
    ways = [n / (steps - 1) for n in range(steps)]
    exact = corners.double()
    top = [between(exact[0], exact[1], x) for x in ways]
    if len(corners) == 2:
        return torch.stack(top)[None].to(corners.dtype)
    bottom = [between(exact[2], exact[3], x) for x in ways]
    rows = [torch.stack([between(a, b, y) for a, b in zip(top, bottom, strict=True)]) for y in ways]
    return torch.stack(rows).to(corners.dtype)


def corners_of(cells: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The 2 or 4 corners, in reading order, of a grid [R, C, …]."""
    rows = cells[:1] if len(cells) == 1 else cells[[0, -1]]
    return rows[:, [0, -1]].reshape(-1, *cells.shape[2:])


def pixel_blend(corners: NDArray[np.uint8], steps: int) -> NDArray[np.uint8]:
    """Pictures uint8 [R, C, H, W, 3] faded into each other from corner pictures uint8 [2 or 4, H, W, 3]."""
    blended = grid(torch.from_numpy(np.ascontiguousarray(corners)).float(), steps)
    return np.rint(blended.numpy()).astype(np.uint8)


@dataclass(frozen=True)
class Condition:
    """All that a prior reads of one prompt, as of a batch of one: see :class:`~eclipse.models.api.Captions`.

    ``text_states`` [L, D] with the subjects in them, ``lengths`` int64 [1], ``prompt_embeds`` [1, P], and ``control``
    [1, P] for a prior with a control token.
    """

    text_states: Tensor
    lengths: Tensor
    prompt_embeds: Tensor
    control: Tensor | None = None


def text_grid(corners: Sequence[Condition], steps: int, embed: Callable[[Condition], Tensor]) -> Tensor:
    """Image embeddings [R, C, P] that ``embed`` ([1, P] each) gives of conditions linearly between 2 or 4 corners.

    Text states are a sequence, so there is something between two prompts only where both have equally many tokens:
    others are a :class:`DataError`.
    """
    counts = [int(corner.lengths) for corner in corners]
    if len(set(counts)) > 1:
        raise DataError(
            f"the prompts have {', '.join(map(str, counts))} tokens: between text states of different lengths there "
            "is nothing; give prompts of equally many tokens to compare with text interpolation"
        )
    states = grid(torch.stack([corner.text_states for corner in corners]), steps)
    pooled = grid(torch.stack([corner.prompt_embeds for corner in corners]), steps)
    controls = [corner.control for corner in corners if corner.control is not None]
    control = grid(torch.stack(controls), steps) if controls else None

    def at(y: int, x: int) -> Tensor:
        here = None if control is None else control[y, x]
        return embed(Condition(states[y, x], corners[0].lengths, pooled[y, x], here))

    return torch.stack([torch.cat([at(y, x) for x in range(steps)]) for y in range(len(states))])
