"""What is known of a sweep from the files that its stages wrote: keys, lineage, curves, environment."""

from __future__ import annotations

import csv
import hashlib
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from eclipse.errors import DataError
from eclipse.files import read_json, sha256

REFERENCES = ("truth", "text", "subject", "mean")
"""Points that are evaluated and are no priors."""
REFERENCE_NAMES = tuple(f"{point}-0" for point in REFERENCES)


@dataclass(frozen=True)
class SweepFiles:
    """What is logged. ``facts`` are metric files of earlier stages (dataset, frozen, store), ``lock`` is dvc.lock.

    ``evaluations`` and ``training`` hold ``<point>-<seed>.json``, ``priors`` ``<point>-<seed>/{training.json,
    curves.csv}``, ``report`` ``report.html`` and ``sheets/``, ``selected`` ``selection.json`` and ``README.md``.
    ``kind`` tells a second half of the sweep from the first: it stands before its runs' names and behind its stages'.
    """

    evaluations: Path
    training: Path
    priors: Path
    report: Path
    selected: Path
    facts: tuple[Path, ...] = ()
    lock: Path | None = None
    wanted: tuple[str, ...] | None = None
    kind: str = ""

    def names(self) -> list[str]:
        """``<point>-<seed>`` of all evaluations; where some are ``wanted``, of these and the references only."""
        stems = sorted(path.stem for path in self.evaluations.glob("*.json"))
        return [stem for stem in stems if self.wanted is None or stem in (*self.wanted, *REFERENCE_NAMES)]


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots; lists stay values."""
    if not isinstance(value, dict):
        return {prefix: value}
    parts = ((f"{prefix}.{key}" if prefix else str(key), inner) for key, inner in value.items())
    return {name: leaf for key, inner in parts for name, leaf in flatten(inner, key).items()}


def curve(path: Path) -> list[tuple[int, dict[str, float]]]:
    """Rows of a training curve as (step, column → value), named ``curve/<column>``; empty cells are left out."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    try:
        return [(int(r["step"]), {f"curve/{k}": float(v) for k, v in r.items() if k != "step" and v}) for r in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a training curve ({error}); run its train stage again") from None


def point_files(files: SweepFiles, name: str) -> list[Path]:
    """The files that say all about ``name`` (``<point>-<seed>``); a reference point has only its evaluation."""
    prior = files.priors / name
    listed = [files.evaluations / f"{name}.json", files.training / f"{name}.json"]
    return [path for path in (*listed, prior / "training.json", prior / "curves.csv") if path.exists()]


def sweep_key(halves: Sequence[SweepFiles]) -> str:
    """Digest of everything that a sweep is logged from, but for what is derived (the report)."""
    listed = [
        path
        for files in halves
        for path in (
            *(path for name in files.names() for path in point_files(files, name)),
            *files.facts,
            files.selected / "selection.json",
        )
    ]
    return files_digest(listed)


def files_digest(paths: list[Path]) -> str:
    """SHA-256 over names and contents; a missing file is a :class:`DataError`."""
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataError(f"{missing[0]}: no such file; run the stage that writes it (dvc repro)")
    return hashlib.sha256(
        "\n".join(f"{path.parent.name}/{path.name} {sha256(path)}" for path in paths).encode()
    ).hexdigest()


def point_tags(files: SweepFiles, name: str) -> dict[str, str]:
    """Lineage of one child: what its training.json records, and DVC's locks of the stages that made it."""
    path = files.priors / name / "training.json"
    lineage = flatten(read_json(path)) if path.exists() else {"role": "reference"}
    tags = {f"eclipse.{key}": str(value) for key, value in lineage.items()}
    stages = _lock(files).get("stages", {})
    for stage in ("train", "evaluate"):
        entry = stages.get(f"{stage}{'-' if files.kind else ''}{files.kind}@{name}")
        if entry:
            tags[f"eclipse.lock.{stage}"] = hashlib.sha256(yaml.safe_dump(entry).encode()).hexdigest()
    return tags


def origin(lock: Path | None) -> dict[str, str]:
    """Git commit, whether the tree differed from it, and the SHA-256 of dvc.lock, where there are such things."""
    tags = {}
    commit = git(Path(), "rev-parse", "HEAD")
    if commit:
        tags = {
            "mlflow.source.git.commit": commit,
            "eclipse.git.dirty": str(bool(git(Path(), "status", "--porcelain"))).lower(),
        }
    if lock and lock.exists():
        tags["eclipse.dvc_lock"] = sha256(lock)
    return tags


def _lock(files: SweepFiles) -> dict[str, Any]:
    if files.lock is None or not files.lock.exists():
        return {}
    return _parsed(files.lock, files.lock.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _parsed(lock: Path, modified: int) -> dict[str, Any]:
    """A lock file of half a megabyte takes pure Python a second; every point asks for it."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(lock.read_text(encoding="utf-8"), loader) or {}


def git(folder: Path, *words: str) -> str:
    """What ``git`` prints in ``folder``, stripped; empty where it fails or is not installed."""
    return git_bytes(folder, *words).decode(errors="replace").strip()


def git_bytes(folder: Path, *words: str) -> bytes:
    """The same, to the byte."""
    try:
        return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, check=False).stdout
    except OSError:
        return b""


def environment() -> dict[str, str]:
    """Python, platform and the libraries that figures depend on."""
    versions = {name: metadata.version(name) for name in ("torch", "diffusers")}
    return {
        f"eclipse.env.{k}": v
        for k, v in {"python": platform.python_version(), "platform": platform.platform(), **versions}.items()
    }
