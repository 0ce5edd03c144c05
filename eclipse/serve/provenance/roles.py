"""What has become of a picture's prior: its roles among the releases here, its version in MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from eclipse.errors import EclipseError
from eclipse.releases.store import Releases, releases_folder
from eclipse.serve.provenance.schema import Prior

if TYPE_CHECKING:
    from eclipse.tracking.registry import Registry, Version

_ROLES = ("champion", "previous", "candidate")


def roles_now(prior: Prior, root: Path) -> dict[str, tuple[str, ...]]:
    """The prior's roles by who tells them: the releases of ``root`` (where something was promoted), and MLflow."""
    told = {}
    models = Releases(releases_folder(root)).state().models.values()
    if models:
        entries = [(role, getattr(model, role)) for model in models for role in _ROLES]
        told["releases"] = tuple(role for role, entry in entries if entry and entry.prior_hash == prior.hash)
    found = registered_version(prior, root)
    if found is not None:
        told["MLflow"] = found[1].aliases
    return told


def registered_version(prior: Prior, root: Path) -> tuple[Registry, Version] | None:
    """The prior's version in MLflow.

    None where it was not registered, no MLflow is set up or answers, or the version of this number is another prior.
    """
    if prior.registered is None:
        return None
    from eclipse.tracking.client import DEFAULT_URI, tracking_uri
    from eclipse.tracking.registry import PRIOR_HASH, Registry

    if tracking_uri() == DEFAULT_URI and not (root / DEFAULT_URI.removeprefix("sqlite:///")).is_file():
        return None  # asking would make an empty store
    try:
        registry = Registry()
        version = registry.get(prior.registered.name, prior.registered.version)
    except EclipseError:
        return None
    return (registry, version) if version.tags.get(PRIOR_HASH) == prior.hash else None
