"""Reads params.yaml into :class:`Params`, and turns each violation into one line that names the key."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from eclipse.config.params import Params
from eclipse.errors import ConfigError


def load_params(path: Path, overrides: list[str] | None = None) -> Params:
    """Read ``path``; ``overrides`` are ``a.b=value`` strings (YAML values) applied on top."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; give --params or run in the repository root") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must hold a mapping of sections")
    for item in overrides or []:
        _override(raw, item)
    return parse_params(raw, source=str(path))


def parse_params(raw: dict[str, Any], *, source: str = "params") -> Params:
    """Validate a mapping; all violations are reported, each with its key and what it could have been."""
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        lines = [_explain(item) for item in error.errors()]
        raise ConfigError(f"{source}: " + "; ".join(lines)) from None


def _override(raw: dict[str, Any], item: str) -> None:
    key, equals, value = item.partition("=")
    if not equals:
        raise ConfigError(f"--set {item}: write KEY=VALUE, for example train.steps=100")
    *path, last = key.split(".")
    node = raw
    for part in path:
        if node.get(part) is None:
            node[part] = {}  # null: a section that is not there yet
        node = node[part]
        if not isinstance(node, dict):
            raise ConfigError(f"--set {item}: {part} is a value, not a section")
    node[last] = yaml.safe_load(value)


def _explain(item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] != "extra_forbidden":
        said = item["msg"].removeprefix("Value error, ")
        got = "" if isinstance(item["input"], dict) else f" (got {item['input']!r})"  # a whole section says nothing
        return f"{where}: {said}{got}" if where else said
    known = _fields_at([str(part) for part in item["loc"][:-1]])
    close = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(known))}"
    return f"{where}: unknown parameter; {hint}"


def _fields_at(path: list[str]) -> list[str]:
    model: type[BaseModel] = Params
    for part in path:
        field = model.model_fields.get(part)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        model = field.annotation
    return list(model.model_fields)
