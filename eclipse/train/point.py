"""Names of sweep points: what method a point trains, and with which λ."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from eclipse.errors import ConfigError

_ECLIPSE = re.compile(r"^eclipse-(\d+(?:\.\d+)?)$")


@dataclass(frozen=True)
class Point:
    """One point. ``lam`` is λ of Eq. 5: 0 for ``projection``, None for ``diffusion``, which has no such term."""

    name: str
    method: Literal["projection", "diffusion", "eclipse"]
    lam: float | None


def parse_point(name: str) -> Point:
    """Read ``projection``, ``diffusion`` or ``eclipse-λ``; anything else is a :class:`ConfigError`."""
    if name == "projection":
        return Point(name, "projection", 0.0)
    if name == "diffusion":
        return Point(name, "diffusion", None)
    found = _ECLIPSE.match(name)
    if found is None:
        raise ConfigError(f"point {name!r} cannot be trained; write projection, diffusion or eclipse-λ (eclipse-0.2)")
    return Point(name, "eclipse", float(found.group(1)))
