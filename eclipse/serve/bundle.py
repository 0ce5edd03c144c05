"""The bundle of a release: a Bento with code, champions, frozen models and locked dependencies, every file listed.

BentoML builds from a folder that holds exactly what is bundled, in a process of its own: that it finds the service
there shows that nothing is missing. The finished Bento is moved into BentoML's store by one rename.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

import eclipse
from eclipse.errors import CheckpointError, DataError, EclipseError
from eclipse.files import atomic_file, atomic_folder, read_json, write_json
from eclipse.lineage import origin
from eclipse.releases.manifest import MANIFEST, check_manifest, list_files
from eclipse.releases.state import Entry, State
from eclipse.releases.store import STATE, Releases
from eclipse.serve.requirements import served_requirements

PACKAGE = Path(eclipse.__file__).parent
SERVICE = "eclipse.serve.service:EclipseService"
PYTHON = "3.11"
REQUIREMENTS = "requirements.txt"
_QUIET = {"BENTOML_DO_NOT_TRACK": "True", "DO_NOT_TRACK": "true", "HF_HUB_DISABLE_TELEMETRY": "1"}
_CONTAINER = {
    **_QUIET,
    "BENTOML_HOST": "0.0.0.0",  # the container's own network; what is published outside is the engine's to say
    "UV_REQUIRE_HASHES": "1",
}


def bento_home() -> Path:
    """BentoML's folder: ``BENTOML_HOME``, else ``~/bentoml``."""
    return Path(os.environ.get("BENTOML_HOME") or Path.home() / "bentoml")


def build_bento(releases: Releases, state: State, *, root: Path, decoder: str) -> str:
    """Build the Bento ``eclipse-<decoder>:<release>`` of the champions of ``state`` and return its tag.

    ``root`` is the repository: its params.yaml, pyproject.toml and lock files go in. The same contents are one Bento,
    however often they are built; other contents under the same release get a tag of their own, because nothing that may
    be served is ever replaced. Raises :class:`EclipseError` where there is nothing to bundle or BentoML fails.
    """
    if not state.champions or state.frozen is None:
        raise EclipseError(
            f"{releases.folder}: names no champion; promote one (python -m eclipse promote). "
            "What import-prior wrote is served in the repository itself (bentoml serve)"
        )
    _check_encoders(releases, state.champions.values(), state.frozen)
    name, home = f"eclipse-{decoder}", bento_home()
    with _beside(home) as beside:
        context = beside / "context"
        _stage(context, releases, state, root)
        version, there = _version(home / "bentos" / name, state.release, context)
        if not there:
            made = _built(beside, name, version)
            _check_built(made)
            (home / "bentos" / name).mkdir(parents=True, exist_ok=True)
            os.replace(made, home / "bentos" / name / version)
    with atomic_file(home / "bentos" / name / "latest") as latest:
        latest.write_text(version, encoding="utf-8")
    return f"{name}:{version}"


def _check_encoders(releases: Releases, champions: Iterable[Entry], frozen: str) -> None:
    """:class:`CheckpointError` for a champion that was trained on another CLIP than the one that is bundled."""
    from eclipse.models.clip_folder import CONFIG, WEIGHTS, weights_hash_of

    clip = releases.frozen(frozen) / "clip"
    present = weights_hash_of(read_json(clip / CONFIG), clip / WEIGHTS)
    for entry in champions:
        trained_on = read_json(releases.prior(entry.prior_hash) / "training.json").get("encoder_hash")
        if trained_on not in (None, present):
            raise CheckpointError(
                f"{releases.prior(entry.prior_hash)}: was trained on the CLIP {trained_on[:12]}, the released one is "
                f"{present[:12]}; promote it with the frozen models that it was trained with"
            )


def bento_folder(tag: str) -> Path:
    """Where the Bento ``tag`` (``name:version``) lies, its contents checked; :class:`CheckpointError` if changed."""
    name, _, version = tag.partition(":")
    folder = bento_home() / "bentos" / name / version
    check_manifest(folder / "src")
    return folder


def _stage(context: Path, releases: Releases, state: State, root: Path) -> None:
    """Put all that is bundled into ``context``, with the list of it."""
    shutil.copytree(PACKAGE, context / "eclipse", ignore=shutil.ignore_patterns("__pycache__"))
    if not (root / "params.yaml").is_file():
        raise DataError(f"{root / 'params.yaml'}: no such file; build bundles in the repository")
    shutil.copyfile(root / "params.yaml", context / "params.yaml")
    locked = served_requirements(root / "pyproject.toml", root / "requirements.lock")
    (context / REQUIREMENTS).write_text(locked, encoding="utf-8")
    bundled = context / "releases"
    for entry in state.champions.values():
        shutil.copytree(releases.prior(entry.prior_hash), bundled / "priors" / entry.prior_hash)
    if state.frozen is not None:
        shutil.copytree(releases.frozen(state.frozen), bundled / "frozen" / state.frozen)
    write_json(bundled / STATE, _champions_only(state).to_json())
    write_json(context / MANIFEST, _manifest(context, releases, state, root))


def _champions_only(state: State) -> State:
    models = {name: replace(state.models[name], previous=None, candidate=None) for name in state.champions}
    return replace(state, models=models)


def _manifest(context: Path, releases: Releases, state: State, root: Path) -> dict[str, Any]:
    """Where everything comes from. It tells no time, so that the same contents have the same manifest."""
    code = origin(root / "dvc.lock")
    models = {}
    for name, entry in state.champions.items():
        training = read_json(releases.prior(entry.prior_hash) / "training.json")
        models[name] = {
            "version": entry.version,
            "prior_hash": entry.prior_hash,
            "dataset_digest": training.get("dataset_digest"),
            "encoder_hash": training.get("encoder_hash"),
            "tags": releases.registered(entry.prior_hash).get("tags", {}),
        }
    return {
        "release": state.release,
        "service": SERVICE,
        "version": eclipse.__version__,
        "commit": code.get("mlflow.source.git.commit"),
        "dirty": code.get("eclipse.git.dirty") == "true",
        "dvc_lock": code.get("eclipse.dvc_lock"),
        "frozen": state.frozen,
        "models": models,
        "files": list_files(context),
    }


def _version(store: Path, release: str, context: Path) -> tuple[str, bool]:
    """The version to build ``context`` as, and whether it is there already, whole."""
    contents = (context / MANIFEST).read_bytes()
    for version in (release, f"{release}-{hashlib.sha256(contents).hexdigest()[:8]}"):
        folder = store / version
        if not folder.exists():
            return version, False
        manifest = folder / "src" / MANIFEST
        if manifest.is_file() and manifest.read_bytes() == contents:
            check_manifest(folder / "src")
            return version, True
    raise CheckpointError(f"{folder}: is not the Bento that its name says; delete it and run again")


def _built(beside: Path, name: str, version: str) -> Path:
    """Let BentoML build ``beside``/context into a store of its own; the Bento's folder."""
    settings = {
        "service": SERVICE,
        "name": name,
        "include": ["**"],
        "labels": {"release": version},
        "envs": [{"name": key, "value": value} for key, value in _CONTAINER.items()],
        "docker": {"python_version": PYTHON},
        "python": {"requirements_txt": REQUIREMENTS, "lock_packages": False},
    }
    bentofile, context, home = beside / "bentofile.yaml", beside / "context", beside / "home"
    bentofile.write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [sys.executable, "-m", "bentoml", "build", str(context), "-f", str(bentofile), "--version", version]
    environment = {**os.environ, **_QUIET, "BENTOML_HOME": str(home)}
    done = subprocess.run(
        [*command, "--output", "tag"], cwd=context, env=environment, capture_output=True, text=True, check=False
    )
    made = home / "bentos" / name / version
    if done.returncode or not made.is_dir():
        said = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1]
        raise EclipseError(f"{name}:{version}: BentoML did not build it ({said})")
    # BentoML adds itself without a hash, which is locked with one already.
    shutil.copyfile(context / REQUIREMENTS, made / "env" / "python" / REQUIREMENTS)
    return made


def _check_built(made: Path) -> None:
    check_manifest(made / "src")
    dockerfile = (made / "env" / "docker" / "Dockerfile").read_text(encoding="utf-8")
    if "\nUSER " not in dockerfile:
        raise EclipseError("BentoML's Dockerfile runs as root; this version of BentoML is not the locked one")


@contextmanager
def _beside(home: Path) -> Iterator[Path]:
    """A temporary folder on the store's file system; BentoML does not read below hidden ones."""
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix="eclipse-", dir=home / "tmp"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def containerfile(tag: str, out: Path) -> Path:
    """Write the Bento ``tag`` to the folder ``out`` as a build context, with ``Dockerfile``; that file's path."""
    folder = bento_folder(tag)
    with atomic_folder(out) as beside:
        shutil.copytree(folder, beside, dirs_exist_ok=True)
        shutil.copyfile(folder / "env" / "docker" / "Dockerfile", beside / "Dockerfile")
    return out / "Dockerfile"


def describe(tag: str) -> dict[str, Any]:
    """The lineage of a Bento, without its list of files."""
    manifest = read_json(bento_folder(tag) / "src" / MANIFEST)
    return {key: value for key, value in manifest.items() if key != "files"}
