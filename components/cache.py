"""Results of stages by the content of all that went into them, with every byte checked before it is used again.

KFP's own cache knows its inputs by name only and does not look whether what it remembers is still there: a deleted or
changed artifact would be a hit. Here the key holds hashes of bytes, and a remembered result is compared with its own.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from eclipse.errors import DataError
from eclipse.files import read_json, sha256, write_json


def content(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files below a folder, compiled Python left out."""
    if path.is_file():
        return sha256(path)
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder; what the stage depends on has to be there")
    digest = hashlib.sha256()
    for file in sorted(found for found in path.rglob("*") if found.is_file() and "__pycache__" not in found.parts):
        digest.update(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n".encode())
    return digest.hexdigest()


def key_of(facts: Mapping[str, Any]) -> str:
    """SHA-256 of JSON-able ``facts``."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class Cache:
    """``folder``/entries/KEY.json names the outputs of a result; ``folder``/objects holds their bytes, by content."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def restore(self, key: str, outputs: Mapping[str, Path]) -> str | None:
        """Copy what is remembered under ``key`` to ``outputs``; why not, in words, where it cannot be.

        It cannot be used where nothing, or not every output, is remembered, and where an object is gone or is not what
        it was.
        """
        entry = self._entry(key)
        if entry is None or set(entry) != set(outputs):
            return "nothing made of these inputs is remembered"
        for name, digest in entry.items():
            stored = self._object(digest)
            if not stored.exists():
                return f"its {name} {digest[:12]} is gone"
            if content(stored) != digest:
                return f"its {name} {digest[:12]} has changed"
        for name, path in outputs.items():
            _copy(self._object(entry[name]), path)
        return None

    def remember(self, key: str, outputs: Mapping[str, Path]) -> None:
        """Keep copies of ``outputs`` under ``key``."""
        digests = {name: content(path) for name, path in outputs.items()}
        for name, digest in digests.items():
            stored = self._object(digest)
            if not stored.exists() or content(stored) != digest:
                _copy(outputs[name], stored)
        write_json(self._path(key), digests)

    def _entry(self, key: str) -> dict[str, str] | None:
        with suppress(DataError):
            return dict(read_json(self._path(key)))
        return None

    def _path(self, key: str) -> Path:
        return self.folder / "entries" / f"{key}.json"

    def _object(self, digest: str) -> Path:
        return self.folder / "objects" / digest[:2] / digest


def _copy(source: Path, target: Path) -> None:
    """Copy a file or folder so that ``target`` appears whole; whoever is first among several that copy at once wins."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        if source.is_dir():
            shutil.copytree(source, beside)
        else:
            shutil.copyfile(source, beside)
        _remove(target)
        beside.replace(target)
    except OSError:
        if not target.exists() or content(target) != content(source):
            raise
    finally:
        _remove(beside)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
