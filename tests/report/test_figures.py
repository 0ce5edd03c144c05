import math

from hypothesis import given
from hypothesis import strategies as st

from eclipse.report.figures import curves_figure, efficient_points, method_colours


def test_a_point_beaten_in_both_is_not_efficient_and_equals_stay():
    points = [("a", 0.9, 0.5), ("b", 0.8, 0.7), ("c", 0.8, 0.6), ("d", 0.9, 0.5)]
    assert efficient_points(points) == {"a", "b", "d"}


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12))
def test_some_point_is_always_efficient_and_the_best_in_x_is_covered(pairs):
    points = [(str(i), x, y) for i, (x, y) in enumerate(pairs)]
    efficient = efficient_points(points)
    assert max(points, key=lambda p: (p[1], p[2]))[0] in efficient


def test_colours_do_not_depend_on_the_order_of_points():
    points = ["eclipse-1.0", "diffusion", "eclipse-0.1", "eclipse-0.5", "projection"]
    colours = method_colours(points)
    assert colours == method_colours(points[::-1]) and len(set(colours.values())) == 5


def test_curves_skip_missing_values_and_follow_the_page_colours():
    columns = {"step": [1.0, 2.0], "loss": [1.0, 0.5], "cos_image": [math.nan, 0.5]}
    svg = curves_figure({("diffusion", 0): columns})
    assert svg.startswith("<svg") and "var(--ink)" in svg and "nan" not in svg.lower()
    assert "<metadata" not in svg and "#010203" not in svg
