"""Registered priors in MLflow: versions, aliases and tags, and the files that belong to a version.

MLflow is the ledger of decisions. Servers do not read it: what they serve is promoted into a folder of releases.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eclipse.errors import CheckpointError, DataError, EclipseError
from eclipse.files import atomic_file, atomic_folder
from eclipse.models.checkpoint import prior_hash
from eclipse.tracking.client import connect, everywhere, one_line_errors, tracking_uri

PREFIX = "eclipse-prior-"
CANDIDATE = "candidate"
PRIOR_HASH = "eclipse.prior_hash"
PRIOR_FOLDER = "artifacts/prior"
"""Where a model that was logged holds the prior's folder."""
_VERSIONS = "mlflow.modelVersions"  # by which MLflow's page of a logged model leads to its version
_ABOUT = (
    "A text-to-image prior. `candidate` is the version that was registered last, `champion` the one that is served, "
    "`previous` the champion before it."
)


@dataclass(frozen=True)
class Version:
    """A version of a registered model as MLflow tells it; ``run_id`` is the run whose artifacts stand beside it."""

    name: str
    version: str
    tags: dict[str, str]
    aliases: tuple[str, ...]
    run_id: str

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


def model_name(variant: str, decoder: str) -> str:
    """``eclipse-prior-<variant>-<decoder>``, as ``eclipse-prior-lambda-eclipse-mini``."""
    return f"{PREFIX}{variant}-{decoder}"


class Registry:
    """The model registry at ``uri``; by default MLFLOW_TRACKING_URI, else ``sqlite:///mlflow.db`` in this directory.

    Every method raises :class:`EclipseError` in one line when the server does not answer or refuses.
    """

    def __init__(self, uri: str | None = None) -> None:
        self.uri = uri or tracking_uri()
        with one_line_errors(self.uri):
            self.client = connect(self.uri)

    def names(self) -> list[str]:
        """All registered priors, sorted."""
        with one_line_errors(self.uri):
            found = _pages(self.client.search_registered_models, f"name LIKE '{PREFIX}%'")
            return sorted(model.name for model in found)

    def versions(self, name: str) -> list[Version]:
        """All versions of ``name``, oldest first; none where there is no such model."""
        with one_line_errors(self.uri):
            found = sorted(_pages(self.client.search_model_versions, f"name = '{name}'"), key=lambda v: int(v.version))
            by_alias = self._aliases(name) if found else {}
        return [
            Version(
                name,
                str(version.version),
                dict(version.tags),
                tuple(sorted(alias for alias, number in by_alias.items() if number == str(version.version))),
                version.run_id or "",
            )
            for version in found
        ]

    def get(self, name: str, version: str) -> Version:
        """One version; an :class:`EclipseError` that names what exists where there is no such one."""
        found = self.versions(name)
        for one in found:
            if one.version == str(version):
                return one
        if found:
            raise EclipseError(f"{name}: no version {version}; there are {', '.join(one.version for one in found)}")
        there = ", ".join(self.names()) or "none"
        raise EclipseError(f"{name}: no such registered model at {self.uri} (there: {there}); run `eclipse register`")

    def by_alias(self, name: str, alias: str) -> Version | None:
        """The version that ``alias`` names, if any."""
        return next((version for version in self.versions(name) if alias in version.aliases), None)

    def add(self, name: str, model_id: str, *, run_id: str, tags: dict[str, str], description: str) -> Version:
        """Make the model ``model_id`` that ``run_id`` logged a new version of ``name``, which may be new itself."""
        with one_line_errors(self.uri), everywhere(self.uri):
            if name not in self.names():
                self.client.create_registered_model(name, description=_ABOUT)
            source = f"models:/{model_id}"
            made = self.client.create_model_version(
                name, source, run_id=run_id, tags=tags, description=description, model_id=model_id
            )
            there = json.dumps([{"name": name, "version": str(made.version)}])
            self.client.set_logged_model_tags(model_id, {_VERSIONS: there})
        return self.get(name, made.version)

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Let ``alias`` name ``version``; it leaves the one that it named."""
        with one_line_errors(self.uri):
            self.client.set_registered_model_alias(name, alias, version)

    def delete_alias(self, name: str, alias: str) -> None:
        """Take ``alias`` away, if it is there."""
        with one_line_errors(self.uri):
            if alias in self._aliases(name):
                self.client.delete_registered_model_alias(name, alias)

    def tag(self, version: Version, key: str, value: str) -> None:
        """Set a tag of ``version``; another value is replaced."""
        with one_line_errors(self.uri):
            self.client.set_model_version_tag(version.name, version.version, key, value)

    def download(self, version: Version, to: Path) -> Path:
        """Fetch the prior's folder as ``to``: config, weights, training.json, selection.json and README.md.

        It appears whole or not at all, replacing what stood there. A prior whose content is not the registered one is
        a :class:`CheckpointError`.
        """
        with one_line_errors(self.uri), atomic_folder(to) as beside:
            got = self._fetch(f"models:/{version.name}/{version.version}/{PRIOR_FOLDER}", beside)
            for path in sorted(got.iterdir()):
                path.rename(beside / path.name)
            shutil.rmtree(beside / Path(PRIOR_FOLDER).parts[0], ignore_errors=True)
            found, wanted = prior_hash(beside), version.tags.get(PRIOR_HASH)
            if found != wanted:
                raise CheckpointError(
                    f"{version}: what was fetched is the prior {found[:12]}, but {str(wanted)[:12]} was registered; "
                    "its files were changed on the server, so register it again"
                )
        return to

    def add_artifact(self, version: Version, file: Path, folder: str) -> None:
        """Put ``file`` beside the version, in ``folder`` of its run's artifacts; one of that name is replaced."""
        if not file.is_file():
            raise DataError(f"{file}: no such file; it cannot be put beside {version}")
        with one_line_errors(self.uri):
            self.client.log_artifact(_run_of(version), str(file), folder)

    def artifact(self, version: Version, path: str, to: Path) -> Path | None:
        """Fetch a file beside the version, such as ``review/sheet.html``, into the folder ``to``; None if absent."""
        folder, _, name = path.rpartition("/")
        with one_line_errors(self.uri), tempfile.TemporaryDirectory() as beside:
            listed = self.client.list_artifacts(_run_of(version), folder or None)
            if not any(entry.path == path and not entry.is_dir for entry in listed):
                return None
            got = self.client.download_artifacts(version.run_id, path, beside)
            with atomic_file(to / name) as part:
                shutil.copyfile(got, part)
        return to / name

    def _aliases(self, name: str) -> dict[str, str]:
        """alias → version; MLflow tells them of a model, and of its versions only when asked one by one."""
        if not _pages(self.client.search_registered_models, f"name = '{name}'"):
            return {}
        aliases = self.client.get_registered_model(name).aliases
        return {alias: str(number) for alias, number in aliases.items()}

    def _fetch(self, uri: str, to: Path) -> Path:
        from mlflow.artifacts import download_artifacts

        return Path(download_artifacts(uri, dst_path=str(to), tracking_uri=self.uri, registry_uri=self.uri))


def _pages(search: Callable[..., Any], query: str) -> list[Any]:
    """All pages of a search."""

    def pages() -> Iterator[Any]:
        page = search(query)
        yield from page
        while page.token:
            page = search(query, page_token=page.token)
            yield from page

    return list(pages())


def _run_of(version: Version) -> str:
    if not version.run_id:
        raise EclipseError(f"{version}: has no run, so it was not made by `eclipse register`; register the prior again")
    return version.run_id
