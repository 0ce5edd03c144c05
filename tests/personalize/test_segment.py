"""Background removal on pictures whose mask is known."""

from __future__ import annotations

import numpy as np
import pytest

from eclipse.errors import DataError
from eclipse.personalize.segment import foreground


def scene(height=120, width=160, noise=12, seed=0) -> tuple[np.ndarray, np.ndarray]:
    """A two-coloured ellipse before an uneven background, and its mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    mask = ((x - width * 0.5) / (width * 0.25)) ** 2 + ((y - height * 0.45) / (height * 0.3)) ** 2 < 1
    image = np.stack([60 + 40 * x / width, 110 + 40 * y / height, np.full(x.shape, 90.0)], axis=2)
    image[mask] = (210, 60, 50)
    image[mask & (y > height * 0.45)] = (240, 210, 60)
    return np.clip(image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8), mask


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("size", [(120, 160), (700, 900)])
def test_finds_the_subject(size):
    image, mask = scene(*size)
    found = foreground(image, "x")
    assert found.shape == mask.shape and found.dtype == np.uint8 and set(np.unique(found)) == {0, 1}
    assert overlap(found > 0, mask) > 0.95


def test_the_same_picture_gives_the_same_mask():
    image, _ = scene()
    first = foreground(image, "x")
    foreground(scene(seed=1)[0], "y")
    assert np.array_equal(first, foreground(image, "x"))


def test_specks_are_left_out():
    image, mask = scene(noise=2)
    image[100:104, 20:24] = (210, 60, 50)
    found = foreground(image, "x")
    assert not found[98:106, 18:26].any() and overlap(found > 0, mask) > 0.95


@pytest.mark.parametrize("size", [(8, 8), (120, 160)])
def test_an_even_picture_has_no_subject_to_find(size):
    with pytest.raises(DataError, match=r"even.png: --segment finds no (subject|background)"):
        foreground(np.full((*size, 3), 77, np.uint8), "even.png")
