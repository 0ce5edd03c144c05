"""What a bundle installs: the lock file's entries for the service, each with its version and hashes."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from eclipse.errors import DataError

NOT_SERVED = frozenset(
    {"mlflow", "dvc", "prefect", "prefect-kubernetes", "kfp", "kfp-kubernetes", "kubeflow", "boto3", "psycopg2-binary"}
)
"""Dependencies that the method's neighbours need and the service does not; nor does it need any extra."""

_ENTRY = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class _Entry:
    """One package of the lock: its lines, and the packages that it is there for."""

    lines: tuple[str, ...]
    wanted_by: frozenset[str]


def served_requirements(pyproject: Path, lock: Path) -> str:
    """The part of ``lock`` that the project's dependencies but :data:`NOT_SERVED` lead to, as a requirements file.

    Reads who wants what from the comments of ``uv pip compile``. A dependency that is not locked is a
    :class:`DataError`.
    """
    entries = _entries(lock)
    roots = _dependencies(pyproject) - NOT_SERVED
    missing = sorted(roots - entries.keys())
    if missing:
        raise DataError(f"{lock}: has no {', '.join(missing)}, which {pyproject} names; run `make lock`")
    kept = set(roots)
    while more := {name for name, entry in entries.items() if name not in kept and entry.wanted_by & kept}:
        kept |= more
    return "".join(f"{line}\n" for name in sorted(kept) for line in entries[name].lines)


def _dependencies(pyproject: Path) -> set[str]:
    try:
        listed = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["dependencies"]
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{pyproject}: tells no dependencies ({error}); build bundles in the repository") from None
    return {_normal(match.group()) for item in listed if (match := _NAME.match(item))}


def _entries(lock: Path) -> dict[str, _Entry]:
    try:
        text = lock.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{lock}: {error.strerror}; build bundles in the repository") from None
    found: dict[str, tuple[list[str], set[str]]] = {}
    lines: list[str] = []
    wanted_by: set[str] = set()
    for line in text.splitlines():
        match = _ENTRY.match(line)
        if match:
            lines, wanted_by = found.setdefault(_normal(match.group(1)), ([], set()))
        if line.lstrip().startswith("#"):
            wanted_by.update(_normal(name) for name in _NAME.findall(line.strip("# ").removeprefix("via"))[:1])
        elif line.strip():
            lines.append(line)
    return {name: _Entry(tuple(lines), frozenset(wanted_by)) for name, (lines, wanted_by) in found.items()}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
