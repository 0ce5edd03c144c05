"""``bundle.json``: every file of a bundle with its digest, so that a bundle that was changed is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eclipse.errors import CheckpointError
from eclipse.files import read_json, sha256
from eclipse.releases.digests import sha256_of

MANIFEST = "bundle.json"


def list_files(folder: Path) -> dict[str, str]:
    """Path below ``folder`` → SHA-256, of all files in it but the manifest itself."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def check_manifest(folder: Path) -> dict[str, Any]:
    """Check every file that ``bundle.json`` lists and return it; :class:`CheckpointError` names one that differs."""
    manifest: dict[str, Any] = read_json(folder / MANIFEST)
    for name, digest in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{path}: missing from this bundle; build it again (python -m eclipse bundle)")
        if sha256_of(path) != digest:
            raise CheckpointError(f"{path}: not the file that was bundled; build it again (python -m eclipse bundle)")
    return manifest
