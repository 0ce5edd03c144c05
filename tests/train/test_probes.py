"""Probes tell a prior that follows its caption from one that copies it and one that ignores it."""

from __future__ import annotations

import csv

import pytest
import torch

from eclipse.train.probes import CURVE, Probes, curve_row, probe, write_curves

IMAGES = torch.eye(4) * torch.tensor([1.0, 2.0, 3.0, 4.0])
TEXTS = torch.eye(4).roll(2, dims=1)


def test_perfect_copying_and_ignorant():
    assert probe(5 * IMAGES, IMAGES, TEXTS) == Probes(image=1.0, text=0.0, shuffled=0.0)
    assert probe(TEXTS, IMAGES, TEXTS) == Probes(image=0.0, text=1.0, shuffled=0.0)
    ignorant = probe(torch.ones(4, 4), IMAGES, TEXTS)
    assert ignorant.image == pytest.approx(ignorant.shuffled) == pytest.approx(0.5)


def test_shuffled_never_compares_a_prediction_with_its_own_image():
    predicted = IMAGES.roll(1, dims=0)
    assert probe(predicted, IMAGES, TEXTS).shuffled == pytest.approx(1.0)


def test_curve_file(tmp_path):
    row = curve_row(3, 0.5, 0.25, 1.25, 1e-4, Probes(0.9, 0.8, 0.1), 2.0)
    write_curves(tmp_path / "curves.csv", [row])
    with (tmp_path / "curves.csv").open() as file:
        (read,) = list(csv.DictReader(file))
    assert tuple(read) == CURVE
    assert {name: float(value) for name, value in read.items()} == row
