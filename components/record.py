"""What dvc.yaml, the graph of record, says that a stage depends on besides the outputs of other stages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from eclipse.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
"""The repository: the folder of dvc.yaml, of the code, and where stages run."""

_MADE = ("artifacts/", "metrics/")
_REFERENCE = re.compile(r"\$\{([a-z_.]+)\}")


@dataclass(frozen=True)
class Recorded:
    """Sections of the parameters, and files or folders of the repository, that shape what a stage writes."""

    sections: tuple[str, ...]
    files: tuple[Path, ...]


def recorded(stage: str, params: dict[str, Any], root: Path = ROOT) -> Recorded:
    """The entry of ``root``/dvc.yaml whose command runs ``stage``, with ``${…}`` filled in from ``params``.

    Outputs of other stages are left out: a component gets them as artifacts. Raises :class:`ConfigError` for a stage
    that is not in the graph.
    """
    stages = yaml.load((root / "dvc.yaml").read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    for entry in stages["stages"].values():
        if entry["cmd"].split()[3] == stage:
            filled = (_filled(dep, params) for dep in entry["deps"] if not dep.startswith(_MADE))
            files = tuple(root / dep for dep in filled if not dep.startswith(_MADE))
            return Recorded(tuple(entry.get("params", ())), files)
    raise ConfigError(f"dvc.yaml: no stage runs `python -m eclipse {stage}`; what it depends on is not known")


def _filled(text: str, params: dict[str, Any]) -> str:
    def value(found: re.Match[str]) -> str:
        node: Any = params
        for part in found[1].split("."):
            node = node[part]
        return str(node)

    return _REFERENCE.sub(value, text)
