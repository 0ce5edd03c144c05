"""Finished shards beside the destination, so that a killed run loses one shard at most and several runs can share."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eclipse.data.records import Record, Shard
from eclipse.data.shards import ShardWriter
from eclipse.errors import DataError
from eclipse.files import atomic_folder, read_json, sha256, write_json

_IDENTITY = "identity.json"
_NOTE = "note.json"
Note = tuple[Shard | None, dict[str, Any]]
"""A finished shard (None where no record was left) and its funnel's counts."""
log = logging.getLogger(__name__)


class Partial:
    """``<out>.partial``: a folder for each finished shard, with its tar file (if records are left) and its funnel.

    ``identity`` is all that shapes the bytes. What a run of another identity left is thrown away with a warning;
    ``shared`` runs, which might throw away each other's work, refuse it with a :class:`DataError` instead.
    """

    def __init__(self, out: Path, identity: dict[str, Any], *, shared: bool) -> None:
        self.out = out
        self.folder = out.with_name(out.name + ".partial")
        self._digest = digest(identity)
        self._adopt(identity, shared)

    def _adopt(self, identity: dict[str, Any], shared: bool) -> None:
        path = self.folder / _IDENTITY
        if path.exists() and _json_or_none(path) != identity:
            if shared:
                raise DataError(
                    f"{self.folder}: left by other parameters, models or data; delete it, or give all parts the same"
                )
            log.warning("%s: left by other parameters, models or data; starting afresh", self.folder)
            shutil.rmtree(self.folder)
        if not path.exists():
            write_json(path, identity)

    def note(self, name: str) -> Note | None:
        """What was noted of shard ``name``; None while it is not finished."""
        note = _json_or_none(self.folder / name / _NOTE)
        if not isinstance(note, dict) or note.get("identity") != self._digest:
            return None
        if note["shard"] is None:
            return None, note["funnel"]
        shard = Shard.model_validate(note["shard"])
        tar = self._tar(shard)
        return (shard, note["funnel"]) if tar.is_file() and tar.stat().st_size == shard.bytes else None

    def finished(self, name: str) -> bool:
        """Whether shard ``name`` is there, with the bytes that were written; reads all of them."""
        note = self.note(name)
        return note is not None and (note[0] is None or sha256(self._tar(note[0])) == note[0].sha256)

    def _tar(self, shard: Shard) -> Path:
        tar = Path(shard.file)
        return self.folder / tar.stem / tar.name

    def write(self, name: str, split: str, records: Sequence[Record], funnel: dict[str, Any]) -> None:
        """Write a shard, which keeps the name of the one it was made from; without records there is only its note."""
        with atomic_folder(self.folder / name) as folder:
            shard = None
            if records:
                with ShardWriter(folder, split, len(records)) as writer:
                    for record in records:
                        writer.add(record)
                [written] = writer.shards
                (folder / written.file).replace(folder / f"{name}.tar")
                (folder / written.file).parent.rmdir()
                shard = written.model_copy(update={"file": f"shards/{name}.tar"}).model_dump()
            write_json(folder / _NOTE, {"identity": self._digest, "shard": shard, "funnel": funnel})

    @contextmanager
    def publishing(self, shards: Sequence[Shard]) -> Iterator[Path | None]:
        """Yield the folder that becomes ``out`` with ``shards`` in it; None if another run has published already.

        Until ``out`` is whole nothing leaves the partial folder, which is removed last.
        """
        with _alone(self.folder / _IDENTITY) as first:
            if not first:
                yield None
                return
            with atomic_folder(self.out) as folder:
                (folder / "shards").mkdir()
                for shard in shards:
                    _link(self._tar(shard), folder / shard.file)
                yield folder
            shutil.rmtree(self.folder)


def digest(value: Any) -> str:
    """SHA-256 of a JSON-able value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _json_or_none(path: Path) -> Any:
    try:
        return read_json(path)
    except DataError:
        return None


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Hold ``path``'s lock, which the system drops when a process dies; False if the file has gone meanwhile."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        yield False
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield path.exists()


def _link(source: Path, target: Path) -> None:
    """A second name for the same bytes, or a copy where the file system has no such names."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
