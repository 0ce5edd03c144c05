"""Artifacts as a stage wants them: checked, laid out as paths, and described for whoever reads them next."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any, TypeAlias

from kfp.dsl import Artifact

from components.cache import content
from eclipse.errors import ConfigError, DataError, EclipseError
from eclipse.files import read_json
from eclipse.lineage import flatten

Given: TypeAlias = "Artifact | list[Artifact] | dict[str, Given]"
"""An artifact, the named artifacts of a fan-out, or a folder of such."""

_BOUNDS = ("low", "high", "n")


def contents(given: Given) -> Any:
    """The hash of each artifact's bytes, by its name in lists and folders.

    Raises :class:`DataError` for an artifact whose bytes are not those that its stage made.
    """
    if isinstance(given, dict):
        return {name: contents(value) for name, value in given.items()}
    if isinstance(given, list):
        return {name: contents(artifact) for name, artifact in named(given).items()}
    found, made = content(Path(given.path)), given.metadata.get("content")
    if made is not None and found != made:
        raise DataError(
            f"{given.path}: its content is {found[:12]}, but it was made as {made[:12]}; it has been changed "
            "since, run the pipeline again"
        )
    return found


def named(artifacts: list[Artifact]) -> dict[str, Artifact]:
    """The artifacts of a fan-out by the names that :func:`describe` gave them: KFP promises no order."""
    found = {str(artifact.metadata.get("name", "")): artifact for artifact in artifacts}
    if "" in found or len(found) != len(artifacts):
        raise ConfigError("collected artifacts: each needs a name of its own; run the pipeline again from its start")
    return dict(sorted(found.items()))


def pick(name: str, artifacts: list[Artifact], out: Artifact) -> None:
    """Make ``out`` a copy of the artifact called ``name``; ends the process with status 2 where there is none."""
    try:
        found = named(artifacts)
        if name not in found:
            raise ConfigError(f"{name}: not among {', '.join(found)}; see subjects.text_only")
        contents(found[name])
    except EclipseError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    shutil.copytree(found[name].path, out.path)
    out.metadata |= found[name].metadata


def lay_out(given: Given, place: Path) -> Path:
    """Where a stage finds what is ``given``: an artifact's own path, or ``place`` as a folder of links to several."""
    if isinstance(given, Artifact):
        return Path(given.path)
    place.mkdir(parents=True)
    for name, value in (named(given) if isinstance(given, list) else given).items():
        path = lay_out(value, place / name)
        if path != place / name:
            suffix = ".json" if path.is_file() else ""
            (place / f"{name}{suffix}").symlink_to(path.absolute())
    return place


def describe(out: Artifact | None, metrics: Artifact | None, name: str) -> dict[str, Any]:
    """Note on the artifacts their name, the hash of their content and, as KFP's page shows them, their figures.

    Returns what is worth a line in a report: ``content`` of ``out`` and, of a prior, ``prior_hash``.
    """
    for artifact in (out, metrics):
        if artifact is not None:
            artifact.metadata |= {"content": content(Path(artifact.path))} | ({"name": name} if name else {})
    if metrics is not None:
        metrics.metadata |= figures(read_json(Path(metrics.path)))
    if out is None:
        return {}
    told = {"content": out.metadata["content"]}
    training = Path(out.path) / "training.json"
    if training.is_file():
        told["prior_hash"] = read_json(training)["prior_hash"]
    out.metadata |= told
    return told


def figures(value: Any) -> dict[str, float]:
    """The numbers of a metric file by dotted names; of an estimate its value, the interval is left to the file."""
    leaves = flatten(value).items()
    numbers = {key: float(v) for key, v in leaves if isinstance(v, int | float) and not isinstance(v, bool)}
    return {key.removesuffix(".value"): v for key, v in numbers.items() if key.rpartition(".")[2] not in _BOUNDS}
