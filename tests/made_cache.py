"""A local cache in Hugging Face's layout: blobs, and a snapshot of links to them."""

from __future__ import annotations

import shutil
from pathlib import Path

REVISION = "0123456789" * 4


def put(cache: Path, repo: str, folder: Path, revision: str = REVISION) -> Path:
    """Put all files of ``folder`` into ``cache`` as those of ``repo`` at ``revision``; its snapshot."""
    model = cache / f"models--{repo.replace('/', '--')}"
    snapshot = model / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (model / "blobs").mkdir(exist_ok=True)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for number, path in enumerate(files):
        blob, name = model / "blobs" / f"{revision[:4]}{number}", path.relative_to(folder)
        shutil.copyfile(path, blob)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(blob)
    return snapshot
