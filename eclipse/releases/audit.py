"""``audit.jsonl``: one line for each decision, only ever appended to, each line with the SHA-256 of the one before."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eclipse.releases.store import JOURNAL, Releases, sync_folder

AUDIT = "audit.jsonl"
BEFORE = "line_before"
_FIRST = ""


def append(releases: Releases, entry: Mapping[str, Any]) -> None:
    """Append ``entry`` (JSON-able) as one line, and return when the disk has it. For holders of the lock.

    A last line that a power cut left unfinished is ended, not removed.
    """
    path = releases.folder / AUDIT
    lines = _lines(path)
    unfinished = bool(lines) and not path.read_bytes().endswith(b"\n")
    before = hashlib.sha256(lines[-1]).hexdigest() if lines else _FIRST
    text = json.dumps({**entry, BEFORE: before}, sort_keys=True, allow_nan=False, ensure_ascii=False)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644), "wb", buffering=0) as file:
        file.write((b"\n" if unfinished else b"") + text.encode() + b"\n")
        os.fsync(file.fileno())
    sync_folder(releases.folder)


def read_audit(releases: Releases) -> list[dict[str, Any]]:
    """All entries, oldest first; lines that are not whole are left out (:func:`faults` tells them)."""
    return [entry for line in _lines(releases.folder / AUDIT) if (entry := _entry(line)) is not None]


def faults(releases: Releases) -> list[str]:
    """What is wrong with the audit, a sentence each: lines that were changed, removed, or are not whole.

    The last move has to stand there too, unless a journal says that it is being made.
    """
    path, found, before = releases.folder / AUDIT, [], _FIRST
    for number, line in enumerate(_lines(path), 1):
        entry = _entry(line)
        if entry is None:
            found.append(f"{path}: line {number} is not whole")
        elif entry.get(BEFORE) != before:
            found.append(f"{path}: line {number} does not follow the line before it; one was changed or removed")
        before = hashlib.sha256(line).hexdigest()
    moves = [int(entry.get("sequence") or 0) for entry in read_audit(releases)]
    if not (releases.folder / JOURNAL).exists() and max(moves, default=0) != releases.state().sequence:
        found.append(f"{path}: does not tell of release {releases.state().release}, which is in force")
    return found


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().removesuffix(b"\n").split(b"\n") if path.is_file() and path.stat().st_size else []


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
