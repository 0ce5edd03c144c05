"""A run's params.yaml: a profile, a list of λ, seeds and overrides, composed as ``dvc exp run -S`` composes them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from eclipse.config import load_params
from eclipse.config.profile import compose_profile
from eclipse.errors import ConfigError
from flows.errors import BadInputError

Lam = Annotated[float, Field(ge=0, le=100)]
Seed = Annotated[int, Field(ge=0)]
Override = Annotated[str, Field(pattern=r"^[a-z_0-9.]+=")]

_SWEPT = re.compile(r"^(?P<family>eclipse|lambda)-(?P<lam>\d+(?:\.\d+)?)(?P<edges>-edges)?$")


def compose(
    folder: Path,
    *,
    profile: str | None = None,
    lam: list[float] | None = None,
    seeds: list[int] | None = None,
    overrides: list[str] | None = None,
) -> bool:
    """Write ``folder``/params.yaml; returns whether it differs from what stood there.

    Without ``profile`` the file that stands there is the start. ``lam`` replaces the λs of both sweeps, ``seeds`` the
    seeds of both; ``overrides`` are KEY=VALUE with YAML values. What they come to is checked as every stage checks it;
    :class:`BadInputError` names the key.
    """
    path = folder / "params.yaml"
    before = path.read_text(encoding="utf-8")
    try:
        raw = compose_profile(folder, profile) if profile else yaml.safe_load(before)
    except ConfigError as error:
        raise BadInputError(str(error)) from None
    if lam is not None:
        _set_lam(raw, lam)
    if seeds is not None:
        raw["sweep"]["seeds"] = list(seeds)
        raw["subjects"]["seeds"] = list(seeds)
    raw = _overridden(raw, overrides or [])
    text = yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)
    changed = yaml.safe_load(before) != raw
    if changed:
        path.write_text(text, encoding="utf-8")
    try:
        load_params(path)
    except ConfigError as error:
        path.write_text(before, encoding="utf-8")
        raise BadInputError(str(error)) from None
    return changed


def _set_lam(raw: dict[str, Any], lam: list[float]) -> None:
    """Give both sweeps these λs; baselines, and the text-only prior that λ-ECLIPSE is compared with, stay."""
    raw["sweep"]["points"] = _points(raw["sweep"]["points"], lam, "eclipse", keep=())
    if raw["subjects"]["points"]:
        kept = (raw["subjects"]["text_only"],)
        raw["subjects"]["points"] = _points(raw["subjects"]["points"], lam, "lambda", keep=kept)


def _points(points: list[str], lam: list[float], family: str, keep: tuple[str, ...]) -> list[str]:
    """``points`` with those of ``family`` replaced, in each of its forms (with and without edges) that occurs."""
    swept = {point: found for point in points if point not in keep and (found := _SWEPT.match(point))}
    swept = {point: found for point, found in swept.items() if found["family"] == family}
    forms = sorted({found["edges"] or "" for found in swept.values()}) or [""]
    written = {float(found["lam"]): found["lam"] for found in swept.values()}  # λ 1.0 and 1 would be two points
    new = [f"{family}-{written.get(value, f'{value:g}')}{form}" for form in forms for value in dict.fromkeys(lam)]
    return [point for point in points if point not in swept] + new


def _overridden(raw: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    for item in overrides:
        key, _, value = item.partition("=")
        *path, last = key.split(".")
        node = raw
        for part in path:
            inner = node.setdefault(part, {})
            if not isinstance(inner, dict):
                raise BadInputError(f"overrides: {item}: {part} is a value, not a section")
            node = inner
        try:
            node[last] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise BadInputError(f"overrides: {item}: not a YAML value ({' '.join(str(error).split())})") from None
    return raw
