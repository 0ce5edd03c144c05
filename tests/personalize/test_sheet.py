"""The sheet: every picture is on it, inputs first."""

from __future__ import annotations

import numpy as np
import pytest

from eclipse.personalize.sheet import draw_sheet


def even(value: int, size: int = 20) -> np.ndarray:
    return np.full((size, size, 3), value, np.uint8)


@pytest.mark.parametrize(("inputs", "results"), [(0, 1), (1, 1), (3, 4), (5, 12)])
def test_shows_inputs_then_results_in_rows_of_eight(inputs, results):
    values = [20 + 11 * i for i in range(inputs + results)]
    cells = [(f"a rather long label {i}", even(v, 20 + 90 * (i % 3))) for i, v in enumerate(values)]
    sheet = np.asarray(draw_sheet("a prompt " * 12, cells[:inputs], cells[inputs:]))
    places = {}
    for value in values:
        rows, columns = np.nonzero((sheet == value).all(axis=2))
        inside = [(r, c) for r, c in zip(rows, columns, strict=True)]
        assert len(inside) >= 128 * 128
        places[value] = (round(np.median(rows) / 20), round(np.median(columns) / 20))  # labels have such pixels, too
    lines = [places[v] for v in values]
    assert lines == sorted(lines)
    assert [sum(place[0] == row for place in lines) for row in sorted({place[0] for place in lines})] == [
        min(8, len(values) - start) for start in range(0, len(values), 8)
    ]


def test_a_long_prompt_is_wrapped_and_not_cut():
    short, long = draw_sheet("a", [], [("x", even(0))]), draw_sheet("many words " * 40, [], [("x", even(0))])
    assert long.height > short.height and long.width == short.width
