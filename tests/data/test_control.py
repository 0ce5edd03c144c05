from __future__ import annotations

import numpy as np

from eclipse.data.control import canny


def test_edges_are_black_and_white_in_three_equal_channels_and_lie_at_the_border():
    image = np.full((40, 50, 3), 30, np.uint8)
    image[10:30, 10:35] = (240, 200, 220)
    edges = canny(image)
    assert edges.shape == image.shape and edges.dtype == np.uint8
    assert set(np.unique(edges)) == {0, 255}
    assert (edges == edges[..., :1]).all()
    rows, columns = np.nonzero(edges[..., 0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) in [(9, 29, 9, 34), (10, 30, 10, 35), (9, 30, 9, 35)]
    assert not edges[14:26, 14:31].any()


def test_a_plain_picture_has_no_edges():
    assert not canny(np.full((20, 20, 3), 128, np.uint8)).any()
