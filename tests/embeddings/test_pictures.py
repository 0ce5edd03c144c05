"""Preparing pictures: any format and size where the data is the web's, and errors that name the record."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from eclipse.embeddings.pictures import Order, decode_picture, prepare
from eclipse.errors import DataError
from eclipse.models.fitting import Fit

FIT = Fit(16, squash=False, interpolation="bicubic")


def file(width, height, kind="PNG", seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def order(*contents, **changes):
    names = tuple(f"shard.tar: record {i}: image" for i in range(len(contents)))
    return Order(contents, names, **{"fit": FIT, "alike": False, "edges": False, **changes})


def test_files_of_any_size_and_kind_become_the_clips_square():
    contents = file(16, 16), file(40, 20, "JPEG"), file(7, 33, "WEBP")
    made = prepare(order(*contents))
    assert made.pictures.shape == (3, 16, 16, 3) and made.pictures.dtype == np.uint8
    assert made.edges is None
    for picture, content in zip(made.pictures, contents, strict=True):
        full = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        assert np.array_equal(picture, FIT.picture(full))


def test_edges_are_traced_at_the_pictures_own_size():
    content = file(40, 20)
    made = prepare(order(content, edges=True))
    grey = cv2.cvtColor(np.asarray(Image.open(io.BytesIO(content))), cv2.COLOR_RGB2GRAY)
    edges = np.repeat(cv2.Canny(grey, 100, 200)[..., None], 3, axis=2)
    assert np.array_equal(made.edges[0], FIT.picture(edges))


def test_sizes_that_must_be_alike():
    with pytest.raises(DataError, match=r"shard\.tar: record 1: image is 20×10, its neighbours are 16×16"):
        prepare(order(file(16, 16), file(20, 10), alike=True))
    assert len(prepare(order(file(20, 10), file(20, 10), alike=True)).pictures) == 2


def test_damaged_and_huge_files_are_named(monkeypatch):
    with pytest.raises(DataError, match="record 0: image cannot be decoded"):
        prepare(order(file(40, 40, "JPEG")[:-300]))
    monkeypatch.setattr("eclipse.embeddings.pictures.MAX_PIXELS", 99)
    with pytest.raises(DataError, match=r"p cannot be decoded \(10 × 10 pixels are more than 99\)"):
        decode_picture(file(10, 10), "p")
