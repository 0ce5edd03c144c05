"""Names of sweep points: what method a point trains, and with which λ."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from eclipse.errors import ConfigError

_SWEPT = re.compile(r"^(?:eclipse-(?P<eclipse>\d+(?:\.\d+)?)|lambda-(?P<lambda>\d+(?:\.\d+)?)(?P<edges>-edges)?)$")


@dataclass(frozen=True)
class Point:
    """One point. ``lam`` is λ of Eq. 5: 0 for ``projection``, None for ``diffusion``, which has no such term.

    The method ``lambda`` is λ-ECLIPSE; with ``edges`` its control token carries the pictures' edge maps.
    """

    name: str
    method: Literal["projection", "diffusion", "eclipse", "lambda"]
    lam: float | None
    edges: bool = False


def parse_point(name: str) -> Point:
    """Read ``projection``, ``diffusion``, ``eclipse-λ``, ``lambda-λ`` or ``lambda-λ-edges``; else a ConfigError."""
    if name == "projection":
        return Point(name, "projection", 0.0)
    if name == "diffusion":
        return Point(name, "diffusion", None)
    found = _SWEPT.match(name)
    if found is None:
        raise ConfigError(
            f"point {name!r} cannot be trained; write projection, diffusion, eclipse-λ (eclipse-0.2), lambda-λ or "
            "lambda-λ-edges"
        )
    if found["eclipse"] is not None:
        return Point(name, "eclipse", float(found["eclipse"]))
    return Point(name, "lambda", float(found["lambda"]), edges=found["edges"] is not None)
