"""The releases folder on disk: priors and frozen models under their digests, the state, and the writers' lock.

    state.json            what is in force
    priors/<prior_hash>/  config.json, diffusion_pytorch_model.safetensors, what else came with it, registered.json
    frozen/<digest>/      clip/ and decoder/, or clip/ and decoder.json (a reference, see eclipse.releases.decoder)
    audit.jsonl           every decision
    journal.json          a move that was begun; absent when all is done

Readers take no lock: what ``state.json`` names is complete before it is named, and is never changed or removed.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eclipse.errors import CheckpointError, DataError, EclipseError
from eclipse.files import atomic_file, atomic_folder, read_json, sha256, tree_digest, write_json
from eclipse.models.checkpoint import prior_hash
from eclipse.releases.decoder import REFERENCE, read_reference
from eclipse.releases.digests import prior_hash_of, sha256_of, tree_digest_of
from eclipse.releases.manifest import MANIFEST
from eclipse.releases.state import State, read_state

VARIABLE = "ECLIPSE_RELEASES"
STATE, JOURNAL, REGISTERED = "state.json", "journal.json", "registered.json"
_LEFT_OVER = (".*.part", ".*.old")


def releases_folder(root: Path) -> Path:
    """``ECLIPSE_RELEASES``, else ``releases`` below ``root``; a bundle serves its own whatever the environment says."""
    named = None if (root / MANIFEST).is_file() else os.environ.get(VARIABLE)
    return Path(named) if named else root / "releases"


class Releases:
    """The releases in ``folder``, which appears with the first thing that is added."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def state(self) -> State:
        """What is in force; empty before the first promotion. :class:`CheckpointError` for a damaged file."""
        return read_state(self.folder / STATE)

    def write_state(self, state: State) -> None:
        """Put ``state`` in force by one rename, which outlives a power cut. For holders of :meth:`lock`.

        It has to be of the present release or the next one: another ``sequence`` is an :class:`EclipseError`.
        """
        present = self.state().sequence
        if state.sequence not in (present, present + 1):
            raise EclipseError(
                f"{self.folder / STATE}: is at sequence {present}, and {state.sequence} does not follow; run again"
            )
        write_durably(self.folder / STATE, state.to_json())

    def add_prior(self, folder: Path, registered: dict[str, Any]) -> str:
        """Copy a prior and all files beside it, with what is ``registered`` (name, version, tags); its prior_hash.

        A prior that is there already keeps its files; one that is damaged is replaced.
        """
        hash_ = prior_hash(folder)
        target = self.folder / "priors" / hash_
        if self._is_whole(target, hash_):
            record = read_json(target / REGISTERED)
            if registered != {key: record[key] for key in registered if key in record}:
                write_json(target / REGISTERED, {**registered, "files": record["files"]})
            return hash_
        with atomic_folder(target) as beside:
            names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != REGISTERED)
            for name in names:
                shutil.copyfile(folder / name, beside / name)
            if prior_hash(beside) != hash_:
                raise CheckpointError(f"{folder}: changed while it was copied; run again")
            write_json(beside / REGISTERED, {**registered, "files": {name: sha256(beside / name) for name in names}})
        return hash_

    def prior(self, hash_: str) -> Path:
        """The folder of this prior, every file checked; :class:`CheckpointError` names the one that does not fit."""
        folder = self.folder / "priors" / hash_
        if not folder.is_dir():
            raise CheckpointError(f"{folder}: no such prior among the releases; promote its version again")
        if prior_hash_of(folder) != hash_:
            raise CheckpointError(
                f"{folder}: holds the prior {prior_hash_of(folder)[:12]}, not the one it is named after; promote its "
                "version again"
            )
        for name, digest in self._registered(folder)["files"].items():
            if not (folder / name).is_file() or sha256_of(folder / name) != digest:
                raise CheckpointError(f"{folder / name}: not the file that was released; promote its version again")
        return folder

    def registered(self, hash_: str) -> dict[str, Any]:
        """What was registered of a prior: ``name``, ``version``, ``tags``."""
        record = self._registered(self.folder / "priors" / hash_)
        return {key: value for key, value in record.items() if key != "files"}

    def add_frozen(self, frozen: Path) -> str:
        """Copy CLIP and decoder (the models, or the reference to them) of a folder of frozen models; their digest."""
        parts = self.folder / "frozen"
        parts.mkdir(parents=True, exist_ok=True)
        with _temporary(parts / "new") as beside:
            copy_frozen(frozen, beside)
            digest = tree_digest(beside)
            target = parts / digest
            if not target.is_dir() or tree_digest_of(target) != digest:
                shutil.rmtree(target, ignore_errors=True)
                os.replace(beside, target)
        return digest

    def frozen(self, digest: str) -> Path:
        """The folder of these frozen models, its digest checked; :class:`CheckpointError` if it does not fit."""
        folder = self.folder / "frozen" / digest
        if not folder.is_dir():
            raise CheckpointError(f"{folder}: no such frozen models among the releases; promote again")
        found = tree_digest_of(folder)
        if found != digest:
            raise CheckpointError(
                f"{folder}: its files have the digest {found[:12]}, not the one it is named after; move the folder "
                "away and promote again"
            )
        return folder

    @contextmanager
    def lock(self, wait: float = 30.0) -> Iterator[None]:
        """Hold the lock of those who write; freed by the kernel when its holder dies.

        :class:`EclipseError` when another process has it for ``wait`` seconds. What a killed holder left half-written
        is removed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / ".lock"
        with path.open("w") as file:
            deadline = time.monotonic() + wait
            while not _locked(file.fileno()):
                if time.monotonic() > deadline:
                    raise EclipseError(
                        f"{path}: another promotion, rollback or registration holds it; run again when it is done"
                    )
                time.sleep(0.05)
            self._sweep()
            yield

    def _sweep(self) -> None:
        for folder in (self.folder, self.folder / "priors", self.folder / "frozen"):
            for left in (path for pattern in _LEFT_OVER for path in folder.glob(pattern)):
                if left.is_dir():
                    shutil.rmtree(left)
                else:
                    left.unlink()

    def _is_whole(self, folder: Path, hash_: str) -> bool:
        try:
            return folder.is_dir() and self.prior(hash_) == folder
        except (CheckpointError, DataError):
            return False

    def _registered(self, folder: Path) -> dict[str, Any]:
        record = read_json(folder / REGISTERED)
        if not isinstance(record, dict) or not isinstance(record.get("files"), dict):
            raise CheckpointError(f"{folder / REGISTERED}: names no files; promote its version again")
        return record


def copy_frozen(frozen: Path, to: Path) -> None:
    """Copy what servers need of a folder of frozen models into the folder ``to``."""
    inside, reference = (frozen / "decoder").is_dir(), (frozen / REFERENCE).is_file()
    if not (frozen / "clip").is_dir() or inside == reference:
        raise CheckpointError(f"{frozen}: has to hold clip/ and either decoder/ or {REFERENCE}; run `dvc repro`")
    shutil.copytree(frozen / "clip", to / "clip")
    if inside:
        shutil.copytree(frozen / "decoder", to / "decoder")
    else:
        read_reference(frozen / REFERENCE)
        shutil.copyfile(frozen / REFERENCE, to / REFERENCE)


def write_durably(path: Path, value: Any) -> None:
    """Write JSON atomically, and return only when the disk has it."""
    with atomic_file(path) as beside, beside.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Return when the disk has the names in ``folder``."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _locked(number: int) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        yield beside
    finally:
        shutil.rmtree(beside, ignore_errors=True)
