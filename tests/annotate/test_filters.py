from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eclipse.annotate import filters
from eclipse.annotate.interfaces import Box
from eclipse.config.subjects import FilterParams

PAPER = FilterParams()


def box(phrase: str = "dog", score: float = 0.9) -> Box:
    return Box(phrase, score, (0, 0, 10, 10))


def test_the_defaults_are_the_papers():
    assert (PAPER.box_threshold, PAPER.text_threshold, PAPER.logit) == (0.2, 0.2, 0.3)
    assert (PAPER.boxes, PAPER.identical, PAPER.subjects) == ((1, 8), 6, (1, 4))
    assert (PAPER.ratio, PAPER.mask_share, PAPER.white) == ((0.08, 0.7), 0.4, 0.1)


def test_white_counts_pixels_that_are_white_in_all_channels():
    image = np.full((10, 10, 3), 120, np.uint8)
    image[0] = 255  # 10 of 100
    assert filters.white(image, PAPER)
    image[1, 0] = (250, 251, 255)  # not exactly white, as after compression
    assert not filters.white(image, PAPER)
    image[1, 0] = (255, 255, 240)  # light yellow
    assert filters.white(image, PAPER)


def test_thresholds_include_their_value():
    scores = np.array([0.19, 0.2, 0.21], np.float32)
    assert filters.box_threshold(scores, PAPER).tolist() == [False, True, True]
    words = np.array([[0.1, 0.19], [0.2, 0.0], [0.0, 0.9]], np.float32)
    assert filters.text_threshold(words, PAPER).tolist() == [False, True, True]


def test_no_phrase_passes_no_threshold():
    assert not filters.text_threshold(np.zeros((3, 0), np.float32), PAPER).any()


@pytest.mark.parametrize(("count", "stays"), [(0, False), (1, True), (8, True), (9, False)])
def test_boxes(count, stays):
    assert filters.boxes([box()] * count, PAPER) is stays


def test_identical_counts_each_noun_alone():
    assert filters.identical([box("dog")] * 6 + [box("cat")] * 2, PAPER)
    assert not filters.identical([box("dog")] * 7, PAPER)
    assert filters.identical([], PAPER)


def test_logit_includes_its_value():
    assert filters.logit(box(score=0.3), PAPER)
    assert not filters.logit(box(score=0.29), PAPER)


@pytest.mark.parametrize(
    ("corners", "stays"),
    [
        ((0, 0, 8, 20), True),  # 8 of 100 wide, 20 of 200 high
        ((0, 0, 7, 20), False),  # too narrow
        ((0, 0, 8, 15), False),  # 15 of 200: too low
        ((0, 0, 70, 140), True),  # both exactly 0.7
        ((0, 0, 71, 20), False),
        ((0, 0, 20, 141), False),
        ((30, 30, 30, 60), False),  # no area
    ],
)
def test_ratio_of_sides(corners, stays):
    assert filters.ratio(corners, (200, 100), PAPER) is stays


@pytest.mark.parametrize(
    ("corners", "stays"),
    [((0, 0, 7, 10), True), ((0, 0, 8, 10), False), ((0, 0, 10, 10), False), ((5, 5, 9, 5), False)],
)
def test_ratio_as_aspect_drops_squares(corners, stays):
    assert filters.ratio(corners, (200, 100), FilterParams(ratio_of="aspect")) is stays


def test_mask_share_is_of_the_box_and_counts_pixels_inside_only():
    mask = np.zeros((20, 20), np.uint8)
    mask[0:4, 0:10] = 1  # 40 of the box's 100 pixels
    mask[15:, :] = 1  # outside of it
    assert filters.mask_share(mask, (0, 0, 10, 10), PAPER)
    mask[0, 0] = 0
    assert not filters.mask_share(mask, (0, 0, 10, 10), PAPER)


def test_an_empty_mask_never_stays():
    assert not filters.mask_share(np.zeros((5, 5), np.uint8), (0, 0, 5, 5), FilterParams(mask_share=0))


@pytest.mark.parametrize(("count", "stays"), [(0, False), (1, True), (4, True), (5, False)])
def test_subjects(count, stays):
    assert filters.subjects(count, PAPER) is stays


@given(
    st.tuples(*[st.integers(0, 40)] * 4),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from(["sides", "aspect"]),
)
def test_ratio_does_not_depend_on_where_the_box_is(corners, size, ratio_of):
    params = FilterParams(ratio_of=ratio_of)
    x0, y0, x1, y1 = corners
    assert filters.ratio(corners, size, params) == filters.ratio((0, 0, x1 - x0, y1 - y0), size, params)
