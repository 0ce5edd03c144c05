"""Latents to pixels tile by tile, so that a large picture takes the memory of a small one. VQModel has no such way.

A MoVQ normalises groups of channels by their statistics over the whole picture; a tile that used its own would have
other colours than its neighbour. So a few passes over the tiles first find the statistics of the whole, layer after
layer, and all tiles use these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

TILE = 64
"""Side of a tile in latents: 512 pixels of Kandinsky's MoVQ."""

OVERLAP = 16
"""Latents that neighbouring tiles share, over which they are blended."""

PASSES = 5
"""Passes that look for the statistics; each settles some layers more, and what is left to settle fades quickly."""

_Statistics = dict[nn.GroupNorm, tuple[Tensor, Tensor]]


def starts(size: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin that cover ``size`` and share at least ``overlap``; the last ends with it."""
    if size <= tile:
        return [0]
    return [*range(0, size - tile, tile - overlap), size - tile]


def ramp(length: int, shared: int, *, first: bool, last: bool) -> Tensor:
    """Weights float32 [length] of a tile along one axis: rising over what it ``shared`` before, falling after."""
    weights = torch.ones(length)
    rising = (torch.arange(shared) + 0.5) / max(shared, 1)
    if not first:
        weights[:shared] = rising
    if not last:
        weights[length - shared :] = torch.minimum(weights[length - shared :], rising.flip(0))
    return weights


def decode_tiled(movq: Any, latents: Tensor, tile: int = TILE, overlap: int = OVERLAP) -> Tensor:
    """Pixels [B, 3, H, W] of ``latents`` [B, C, h, w]; what one tile covers is decoded as a whole, to the bit.

    A tile sees nothing outside it, which the linear blend over ``overlap`` latents hides; attention is its own, too.
    Pixels gather on the CPU, in float32. It takes about 1 + :data:`PASSES` times as long as the whole at once.
    """
    height, width = latents.shape[2:]
    if height <= tile and width <= tile:
        return _decode(movq, latents)
    with shared_statistics(movq, latents, tile):
        return _blended(movq, latents, tile, overlap)


def _blended(movq: Any, latents: Tensor, tile: int, overlap: int) -> Tensor:
    height, width = latents.shape[2:]
    factor = 2 ** (len(movq.config.block_out_channels) - 1)
    tops, lefts = starts(height, tile, overlap), starts(width, tile, overlap)
    summed = torch.zeros(len(latents), movq.config.out_channels, height * factor, width * factor)
    weight = torch.zeros(height * factor, width * factor)
    for top, left in product(tops, lefts):
        pixels = _decode(movq, latents[:, :, top : top + tile, left : left + tile]).float().cpu()
        down, across = pixels.shape[2:]
        shared = overlap * factor
        vertical = ramp(down, min(shared, down), first=top == tops[0], last=top == tops[-1])
        horizontal = ramp(across, min(shared, across), first=left == lefts[0], last=left == lefts[-1])
        blend = vertical[:, None] * horizontal
        rows = slice(top * factor, top * factor + down)
        columns = slice(left * factor, left * factor + across)
        summed[:, :, rows, columns] += pixels * blend
        weight[rows, columns] += blend
    return summed / weight


def _decode(movq: Any, latents: Tensor) -> Tensor:
    pixels: Tensor = movq.decode(latents, force_not_quantize=True)["sample"]
    return pixels


@contextmanager
def shared_statistics(movq: Any, latents: Tensor, tile: int) -> Iterator[None]:
    """Within it, ``movq`` decodes any part of ``latents`` with the group statistics of the whole.

    Where weights are moved layer by layer (sequential offload) nothing is changed: a layer cannot be entered there.
    """
    groups = [module for module in movq.decoder.modules() if isinstance(module, nn.GroupNorm)]
    if any(hasattr(module, "_hf_hook") for module in groups):
        yield
        return
    fixed: _Statistics = {}
    try:
        for _ in range(PASSES):
            fixed = _gathered(movq, latents, tile, groups, fixed)
        for module in groups:
            _replace(module, fixed, None)
        yield
    finally:
        for module in groups:
            module.__dict__.pop("forward", None)


def _gathered(movq: Any, latents: Tensor, tile: int, groups: list[nn.GroupNorm], fixed: _Statistics) -> _Statistics:
    """Mean and variance [B, G, 1] of each group over tiles that share nothing, the tiles decoded with ``fixed``."""
    height, width = latents.shape[2:]
    sums: dict[nn.GroupNorm, Tensor] = {}

    def add(module: nn.GroupNorm, x: Tensor) -> None:
        numbers = x.new_full(x.shape[:2], x.shape[2])
        moments = torch.stack([numbers, x.sum(-1), x.square().sum(-1)]).double().cpu()
        sums[module] = sums[module] + moments if module in sums else moments

    for module in groups:
        _replace(module, fixed, add)
    for top, left in product(range(0, height, tile), range(0, width, tile)):
        _decode(movq, latents[:, :, top : top + tile, left : left + tile])
    found: _Statistics = {}
    for module, (count, total, squares) in sums.items():
        mean = total / count
        found[module] = mean[..., None], (squares / count - mean.square()).clamp(min=0)[..., None]
    return found


def _replace(module: nn.GroupNorm, fixed: _Statistics, add: Callable[[nn.GroupNorm, Tensor], None] | None) -> None:
    """Make ``module`` normalise by ``fixed``, where that has it, and tell ``add`` its groups float32 [B, G, n]."""

    def forward(x: Tensor) -> Tensor:
        grouped = x.float().reshape(x.shape[0], module.num_groups, -1)
        if add is not None:
            add(module, grouped)
        if module in fixed:
            mean, variance = (value.to(x.device, torch.float32) for value in fixed[module])
        else:
            mean, variance = grouped.mean(-1, keepdim=True), grouped.var(-1, correction=0, keepdim=True)
        normal = ((grouped - mean) * torch.rsqrt(variance + module.eps)).reshape(x.shape).to(x.dtype)
        per_channel = (1, -1, *(1,) * (x.ndim - 2))
        return normal * module.weight.view(per_channel) + module.bias.view(per_channel)

    module.__dict__["forward"] = forward
