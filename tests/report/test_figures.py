import math
import re

from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot as plt

from eclipse.evaluate.bootstrap import Estimate
from eclipse.evaluate.summary import Row
from eclipse.report import figures
from eclipse.report.figures import curves_figure, efficient_points, method_colours, subject_pareto


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


def _row(point, concept, rest):
    known = {"concept": concept, "rest": rest}
    values = {
        name: Estimate(value, value - 0.05, value + 0.05, 9) for name, value in known.items() if value is not None
    }
    return Row(point, (0,), {"s": values}, 0.0)


SUBJECT_ROWS = [
    _row("subject", 0.9, 0.1),
    _row("eclipse-0.2", 0.1, 0.95),
    _row("lambda-0.5", 0.7, 0.8),
    _row("lambda-0", 0.8, 0.6),
    _row("lambda-0.2", 0.6, 0.5),
    _row("lambda-0.2-edges", 0.75, 0.75),
    _row("lambda-0-edges", 0.99, None),
]


def test_the_line_joins_lambda_eclipse_without_edges_by_lambda(monkeypatch):
    monkeypatch.setattr(figures, "_svg", lambda figure, _: figure)
    axis = subject_pareto(SUBJECT_ROWS, "s").axes[0]
    assert list(axis.lines[0].get_xdata()) == [0.8, 0.6, 0.7] and list(axis.lines[0].get_ydata()) == [0.6, 0.5, 0.8]
    marks = {float(c.lines[0].get_xdata()[0]): c.lines[0] for c in axis.containers}
    filled = {x: mark.get_markerfacecolor() == mark.get_color() for x, mark in marks.items()}
    assert filled == {0.9: True, 0.1: True, 0.7: True, 0.8: True, 0.6: False, 0.75: True}
    looks = {x: (mark.get_marker(), mark.get_color()) for x, mark in marks.items()}
    assert looks[0.7] == looks[0.8] == looks[0.6] and len(set(looks.values())) == 4
    names = {text.xy[0]: text.get_text() for text in axis.texts}
    assert set(names) == set(filled) and names[0.9] == "subjects alone" and names[0.7].endswith("0.5")
    plt.close(axis.figure)


def test_the_subjects_figure_follows_the_page_and_is_the_same_again():
    svg = subject_pareto(SUBJECT_ROWS, "s")
    assert svg == subject_pareto(SUBJECT_ROWS, "s")
    assert svg.startswith("<svg") and "var(--ink)" in svg and "#010205" not in svg
    assert set(re.findall(r'id="([a-z]+-[a-z]+)-', svg)) == {"subject-pareto"}
