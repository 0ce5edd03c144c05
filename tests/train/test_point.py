"""Point names."""

from __future__ import annotations

import pytest

from eclipse.errors import ConfigError
from eclipse.train.point import Point, parse_point


def test_known_points():
    assert parse_point("projection") == Point("projection", "projection", 0.0)
    assert parse_point("diffusion") == Point("diffusion", "diffusion", None)
    assert parse_point("eclipse-0.2") == Point("eclipse-0.2", "eclipse", 0.2)
    assert parse_point("eclipse-1") == Point("eclipse-1", "eclipse", 1.0)
    assert parse_point("lambda-0") == Point("lambda-0", "lambda", 0.0)
    assert parse_point("lambda-0.2") == Point("lambda-0.2", "lambda", 0.2, edges=False)
    assert parse_point("lambda-0.2-edges") == Point("lambda-0.2-edges", "lambda", 0.2, edges=True)


@pytest.mark.parametrize(
    "name",
    [
        *("eclipse", "eclipse-", "eclipse--1", "eclipse-0.2x", "truth", "text", "", "Projection"),
        *("lambda", "lambda-", "lambda-0.2-edge", "lambda-edges", "eclipse-0.2-edges", "lambda-0.2-edges-edges"),
    ],
)
def test_others_are_refused(name: str):
    with pytest.raises(ConfigError, match="write projection, diffusion, eclipse-λ .*, lambda-λ or lambda-λ-edges"):
        parse_point(name)
