from __future__ import annotations

import hashlib

import numpy as np
import pytest

from eclipse.data.crops import crop_on_white
from eclipse.errors import DataError
from eclipse.world.render import SIZE, render
from eclipse.world.scene import Scene, Thing, random_scene


def test_crop_shows_the_object_alone_on_white():
    scene = Scene("left_right", (Thing("red", "circle", "solid"), Thing("blue", "heart", "solid")), "black")
    picture = render(scene, np.random.default_rng(0))
    crop = crop_on_white(picture.image, picture.masks[0], size=SIZE)
    assert crop.shape == (SIZE, SIZE, 3)
    assert (crop[:3] == 255).all()
    assert not ((crop[..., 2] > 150) & (crop[..., 0] < 100)).any()
    assert ((crop[..., 0] > 180) & (crop[..., 1] < 80)).mean() > 0.3


def test_pixels_are_those_that_the_shipped_models_were_trained_on():
    digest = hashlib.sha256()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        picture = render(random_scene(rng), rng)
        digest.update(crop_on_white(picture.image, picture.masks[0], size=SIZE, margin=seed % 8).tobytes())
    assert digest.hexdigest()[:16] == "13183e1ebe2992c3"


@pytest.mark.parametrize("size", [16, 64, 224])
def test_the_object_is_centred_and_fills_the_square_whatever_its_place_and_the_sizes(size):
    image = np.full((30, 90, 3), 7, np.uint8)
    mask = np.zeros((30, 90), np.uint8)
    mask[2:12, 70:90] = 1  # 20 wide, 10 high, at the picture's edge
    crop = crop_on_white(image, mask, size=size, margin=0)
    assert crop.shape == (size, size, 3) and crop.dtype == np.uint8
    dark = (crop == 7).all(-1)
    rows = np.flatnonzero(dark.any(1))
    assert dark.any(0).mean() > 0.9
    assert abs(len(rows) / size - 0.5) < 0.1
    assert abs(rows.mean() / size - 0.5) < 0.05
    assert set(np.unique(crop)) == {7, 255}


def test_empty_mask_is_refused():
    with pytest.raises(DataError, match="mask has no pixel"):
        crop_on_white(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8), size=8)
