import cv2
import numpy as np
import pytest

from eclipse.data.control import canny
from eclipse.evaluate.subject_edges import edge_f1


def square(x=16, size=24, canvas=64):
    image = np.full((canvas, canvas, 3), 230, np.uint8)
    image[16 : 16 + size, x : x + size] = (30, 30, 200)
    return image


def score(decoded, real):
    return edge_f1(decoded[None], real[None])[0]


def test_the_same_edges_in_other_colours_are_held_and_one_pixel_is_forgiven():
    other = 255 - square()
    assert score(other, square()) == 1
    assert score(square(17), square(16)) == 1
    assert score(square(21), square(16)) < 0.7


def test_against_a_distance_by_hand():
    decoded, real = square(18, 30), square(16, 24)
    a, b = (canny(image)[..., 0] > 0 for image in (decoded, real))

    def near(points, others):
        """Share of ``points`` with one of ``others`` at most one pixel away, row- and column-wise."""
        here, there = np.argwhere(points), np.argwhere(others)
        return (np.abs(here[:, None] - there[None]).max(2).min(1) <= 1).mean()

    precision, recall = near(a, b), near(b, a)
    assert 0 < precision < 1 and precision != recall
    assert score(decoded, real) == pytest.approx(2 * precision * recall / (precision + recall))


def test_no_edges():
    flat = np.full((64, 64, 3), 99, np.uint8)
    assert score(flat, square()) == 0
    assert np.isnan(score(square(), flat))


def test_prompts_do_not_mix_and_larger_pictures_are_scaled():
    large = cv2.resize(square(), (256, 256), interpolation=cv2.INTER_NEAREST)
    assert score(large, square()) == 1
    mixed = edge_f1(np.stack([square(), square(30)]), np.stack([square(), square()]))
    assert mixed[0] == 1 and mixed[1] < 1
    assert edge_f1(np.zeros((0, 64, 64, 3), np.uint8), np.zeros((0, 64, 64, 3), np.uint8)).shape == (0,)
