"""How evenly a sequence of pictures changes: LPIPS-style distances between neighbours, without downloaded weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Features = tuple[Tensor, ...]
"""Of one picture: per layer the activations float32 [1, C, h, w], of unit length over the channels at each position."""


@dataclass(frozen=True)
class Smoothness:
    """Figures of one path, or means over the paths of a grid.

    ``ratio`` is the largest neighbour distance over the mean one: 1 = perfectly even, n = all change in one of n steps;
    None for pictures that do not change at all. ``length`` is the sum of the neighbour distances; they are squared, as
    LPIPS is, so lengths compare between paths of equally many pictures only. ``paths`` counts what was averaged.
    """

    ratio: float | None
    length: float
    paths: int


@torch.no_grad()
def movq_features(movq: Any, image: NDArray[np.uint8], device: torch.device) -> Features:
    """Activations of ``image`` uint8 [H, W, 3] behind each down block and the middle block of a VQModel's encoder.

    These are what LPIPS (Zhang et al. 2018, arXiv 1801.03924, Eq. 1) takes from a classifier. The encoder is the frozen
    decoder's own, so the distance knows what that decoder draws, and nothing has to be fetched. ``device`` is where it
    computes, which ``movq`` does not tell where its weights are moved there for their work.
    """
    kept: list[Tensor] = []

    def keep(_module: Any, _inputs: Any, output: Tensor) -> None:
        kept.append(F.normalize(output.float(), dim=1))

    layers = [*movq.encoder.down_blocks, movq.encoder.mid_block]
    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].to(device, movq.dtype)
        movq.encode(x / 127.5 - 1)  # which, unlike the encoder itself, has weights moved that are elsewhere
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(kept)


def perceptual_distance(a: Features, b: Features) -> float:
    """Squared difference of unit vectors, summed over channels, then averaged over positions and layers: in [0, 4].

    LPIPS without the learned channel weights (all are 1), and with the mean over layers in place of their sum.
    """
    layers = [(x - y).square().sum(1).double().mean() for x, y in zip(a, b, strict=True)]
    return float(torch.stack(layers).mean())


def neighbour_distances(
    pictures: Iterable[NDArray[np.uint8]], features: Callable[[NDArray[np.uint8]], Features]
) -> list[float]:
    """Distances between successive pictures uint8 [H, W, 3]: one less than there are pictures."""
    found: list[float] = []
    last: Features | None = None
    for picture in pictures:
        new = features(picture)
        if last is not None:
            found.append(perceptual_distance(last, new))
        last = new
    return found


def rows_and_columns(pictures: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """The paths of a grid uint8 [R, C, H, W, 3]: its rows, and its columns where there is more than one row."""
    rows = list(pictures)
    return rows if len(rows) == 1 else rows + list(pictures.swapaxes(0, 1))


def smoothness(paths: Sequence[Sequence[float]]) -> Smoothness:
    """The figures of paths given by their neighbour distances, averaged over the paths.

    A path on which nothing changes has no ratio and does not enter the mean of ratios; its length, 0, does.
    """
    ratios = [max(path) / (sum(path) / len(path)) for path in paths if sum(path) > 0]
    length = sum(sum(path) for path in paths) / len(paths)
    return Smoothness(sum(ratios) / len(ratios) if ratios else None, length, len(paths))


def grid_smoothness(movq: Any, pictures: NDArray[np.uint8], device: torch.device) -> Smoothness:
    """:func:`smoothness` over rows and columns of ``pictures`` uint8 [R, C, H, W, 3], seen by ``movq``'s encoder.

    ``device`` is that of :func:`movq_features`.
    """
    paths = rows_and_columns(pictures)
    return smoothness([neighbour_distances(path, lambda image: movq_features(movq, image, device)) for path in paths])
