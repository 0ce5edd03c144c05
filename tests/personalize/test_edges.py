"""Control pictures: what is an edge map, and what becomes of other sizes and aspects."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from eclipse.data.control import canny
from eclipse.personalize.edges import control_picture, is_edge_map
from eclipse.personalize.picture import Picture


def photo(height=64, width=64) -> np.ndarray:
    image = np.full((height, width, 3), (200, 190, 60), np.uint8)
    centre = (width // 2, height // 2)
    return cv2.circle(image, centre, min(centre) // 2, (30, 40, 160), -1)


def test_a_photo_of_the_right_size_becomes_its_canny_edges():
    edges, as_given = control_picture(Picture(photo()), 64)
    assert not as_given and np.array_equal(edges, canny(photo())) and edges.any()


def test_an_edge_map_of_the_right_size_is_used_as_it_is():
    given = canny(photo())
    edges, as_given = control_picture(Picture(given), 64)
    assert as_given and np.array_equal(edges, given)


@pytest.mark.parametrize("size", [(128, 256), (256, 128), (32, 64), (64, 200)])
def test_another_size_is_fitted_and_cropped_at_the_centre(size):
    for image in (photo(*size), canny(photo(*size))):
        edges, _ = control_picture(Picture(image), 64)
        assert edges.shape == (64, 64, 3) and set(np.unique(edges)) == {0, 255}
        rows, columns = np.nonzero(edges[..., 0])
        # The circle's diameter is half of the shorter side, and its centre the picture's.
        assert abs(np.ptp(rows) - 32) <= 3 and abs(np.ptp(columns) - 32) <= 3
        assert abs(rows.mean() - 31.5) <= 1.5 and abs(columns.mean() - 31.5) <= 1.5


def test_thin_lines_survive_being_made_smaller():
    lines = np.zeros((640, 640, 3), np.uint8)
    lines[100], lines[:, 333] = 255, 255
    edges, as_given = control_picture(Picture(lines), 64)
    assert as_given
    assert (edges[10] == 255).all() and (edges[:, 33] == 255).all() and (edges > 0).mean() < 0.04


def test_what_is_an_edge_map():
    edges = canny(photo())
    assert is_edge_map(edges) and is_edge_map(edges.repeat(6, 0).repeat(6, 1))
    assert is_edge_map(
        canny(np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((8, 8)))[..., None].repeat(3, 2).astype(np.uint8) * 200)
    )
    softened = np.clip(edges.astype(int) + np.random.default_rng(0).integers(-20, 20, (64, 64, 1)), 0, 255)
    assert is_edge_map(softened.astype(np.uint8))
    silhouette = cv2.circle(np.zeros_like(edges), (32, 32), 16, (255, 255, 255), -1)
    for other in (photo(), 255 - edges, silhouette, np.zeros_like(edges), np.full_like(edges, 128), edges // 2):
        assert not is_edge_map(other)
    tinted = edges.copy()
    tinted[..., 2] //= 2
    assert not is_edge_map(tinted)
