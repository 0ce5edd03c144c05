"""What the loss does not say: how near predictions are to image, text and other images; and the curve of it all."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from eclipse.files import atomic_file

CURVE = ("step", "loss", "mse", "contrastive", "lr", "cos_image", "cos_text", "cos_shuffled", "seconds")
"""Columns of curves.csv. ``step`` counts from 1; ``contrastive`` is reported even where it is not trained on."""


class Probes(NamedTuple):
    """Mean cosines of a batch's predictions.

    ``image``: to the own image embedding. ``text``: to the own caption's embedding (high for a prior that copies it).
    ``shuffled``: to the image of another caption in the batch (as high as ``image`` if captions are ignored).
    """

    image: float
    text: float
    shuffled: float


@torch.no_grad()
def probe(predicted: Tensor, image_embeds: Tensor, text_embeds: Tensor) -> Probes:
    """Probe a global batch: three float tensors [B ≥ 2, P], row i belonging together. Shuffling is a roll by one."""
    unit = F.normalize(predicted.float(), dim=-1)
    images = F.normalize(image_embeds.float(), dim=-1)
    texts = F.normalize(text_embeds.float(), dim=-1)
    return Probes(
        image=_mean_dot(unit, images), text=_mean_dot(unit, texts), shuffled=_mean_dot(unit, images.roll(1, dims=0))
    )


def _mean_dot(left: Tensor, right: Tensor) -> float:
    return float((left * right).sum(dim=-1).mean())


def curve_row(
    step: int, loss: float, mse: float, contrastive: float, lr: float, probes: Probes, seconds: float
) -> dict[str, float]:
    """One row of the training curve, by the columns :data:`CURVE`."""
    values = (step, loss, mse, contrastive, lr, probes.image, probes.text, probes.shuffled, seconds)
    return dict(zip(CURVE, values, strict=True))


def write_curves(path: Path, rows: list[dict[str, float]]) -> None:
    """Write rows with the columns :data:`CURVE` as CSV, atomically."""
    with atomic_file(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CURVE, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: f"{value:.8g}" for name, value in row.items()} for row in rows)
