import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eclipse.evaluate import metrics
from eclipse.evaluate.metrics import Gallery

finite = st.floats(-10, 10, width=32)


def test_cosine_of_known_angles_ignores_length():
    a = np.array([[2, 0], [1, 1], [0, 3], [0, 0]], np.float32)
    b = np.array([[5, 0], [1, 0], [0, -1], [1, 0]], np.float32)
    assert metrics.cosine(a, b) == pytest.approx([1, np.sqrt(0.5), -1, 0], abs=1e-6)


def test_ranks_by_hand():
    gallery = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    queries = np.array([[1, 0.1], [0.9, 1.0], [1, 0.1]], np.float32)
    rank = metrics.ranks(queries, Gallery.of(gallery), np.array([0, 0, 2]))
    assert rank.tolist() == [0, 1, 2]
    assert metrics.recall(rank, 1).tolist() == [1, 0, 0]
    assert metrics.recall(rank, 2).tolist() == [1, 1, 0]


def test_a_prediction_that_cannot_tell_pictures_apart_earns_nothing():
    gallery = np.eye(4, dtype=np.float32)
    rows = np.arange(4)
    for useless in (np.zeros((4, 4), np.float32), np.ones((4, 4), np.float32)):
        assert metrics.ranks(useless, Gallery.of(gallery), rows).tolist() == [3, 3, 3, 3]


def test_pictures_that_differ_in_the_last_float32_digits_are_still_told_apart():
    gallery = np.float32(1) + np.float32(3e-4) * np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    assert (metrics.ranks(gallery, Gallery.of(gallery), np.arange(20)) == 0).all()


def test_copies_of_the_own_picture_are_no_competitors_but_lookalikes_are():
    gallery = np.array([[1, 0], [1, 0], [2, 0], [0, 1]], np.float32)
    rank = metrics.ranks(np.array([[1, 0.0]], np.float32), Gallery.of(gallery), np.array([0]))
    assert rank.tolist() == [1]  # [2, 0] is another picture in the same direction; [1, 0] twice is one picture


@settings(max_examples=30, deadline=None)
@given(arrays(np.float32, (6, 4), elements=finite), st.integers(1, 5))
def test_blocks_do_not_change_ranks(vectors, block):
    queries, gallery = vectors, Gallery.of(vectors[::-1].copy())
    whole = metrics.ranks(queries, gallery, np.arange(6))
    before, metrics._BLOCK = metrics._BLOCK, block
    try:
        assert metrics.ranks(queries, gallery, np.arange(6)).tolist() == whole.tolist()
    finally:
        metrics._BLOCK = before
    assert ((whole >= 0) & (whole < 6)).all()


def test_nearest_distance_by_hand():
    reference = np.array([[1, 0], [0, 7]], np.float32)
    found = metrics.nearest_distance(np.array([[3, 0], [1, 1], [-1, 0]], np.float32), reference)
    assert found == pytest.approx([0, np.sqrt(2 - np.sqrt(2)), np.sqrt(2)], abs=1e-3)


def test_manifold_is_one_for_real_pictures_and_more_off_the_manifold():
    rng = np.random.default_rng(0)
    shape = (rng.normal(size=(400, 3)) @ rng.normal(size=(3, 16))).astype(np.float32)
    training, real = shape[:300], shape[300:]
    assert metrics.manifold(real, real, training).mean() == pytest.approx(1)
    off = real + rng.normal(0, 1.0, real.shape).astype(np.float32)
    assert metrics.manifold(off, real, training).mean() > 1.5


def test_binding_compares_with_the_mirror_and_a_tie_is_wrong():
    own, mirrored = np.array([[1, 0]] * 3, np.float32), np.array([[0, 1]] * 3, np.float32)
    predicted = np.array([[1, 0.5], [0.5, 1], [1, 1]], np.float32)
    assert metrics.binding(predicted, own, mirrored).tolist() == [1, 0, 0]
