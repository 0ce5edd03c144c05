"""Where the processes of one run meet: the folder of their parts, and a lock beside it that outlives the folder.

A part is published, and all of them are put together, by whoever holds the lock. The lock's file then notes the store
that came of them, so that a process that comes too late learns of it instead of beginning again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError

from eclipse.embeddings.header import read_header, store_hash
from eclipse.embeddings.parts import entries_of, put_together
from eclipse.embeddings.static_file import StaticFile
from eclipse.embeddings.writer import PROGRESS, partial_of
from eclipse.errors import DataError, StoreError
from eclipse.files import read_json, sha256

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Meeting:
    """The ``size`` parts in ``folder`` of the store ``out``; ``identity`` is all that shapes its bytes.

    Methods whose description says "alone" want the lock to be held (:meth:`alone`).
    """

    folder: Path
    out: Path
    size: int
    identity: dict[str, Any]

    @contextmanager
    def alone(self, *, reading: bool = False) -> Iterator[None]:
        """Hold the lock; ``reading`` shares it with others that read."""
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_SH if reading else fcntl.LOCK_EX)
            yield

    def over(self) -> dict[str, Any] | None:
        """The summary of the store, if these parts became one that is still there, with every byte; alone."""
        try:
            note = read_json(self._lock)
            if note["identity"] != self.identity or note["store"] != store_hash(self.out):
                return None
            for entry in read_header(self.out).files():
                entry.check_hash(self.out)
            return dict(note["summary"])
        except (DataError, StoreError, KeyError, TypeError):
            return None

    def end(self, summary: dict[str, Any]) -> None:
        """Note that ``out`` is published, with ``summary``, and remove the parts; alone."""
        note = {"identity": self.identity, "store": store_hash(self.out), "summary": summary}
        # Not replaced: whoever waits for the lock has this very file open.
        self._lock.write_text(json.dumps(note, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        self.clear()

    def clear(self) -> None:
        """Remove the parts of a store that is published."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def static(self, make: Callable[[], StaticFile]) -> Path:
        """The file of statistics that all parts share; the first process makes it, alone.

        One for each: the last bits of two encoders may differ, and no shard could then be read beside the others.
        """
        path = self._static
        try:
            StaticFile.load(path)
        except (OSError, SafetensorError, KeyError):
            make().save(path)
        return path

    def part(self, number: int) -> Path:
        """Where part ``number`` lies when it is finished."""
        return self.folder / str(number)

    def finished(self, number: int) -> bool:
        """Whether part ``number`` is there and of this identity; its bytes are not looked at."""
        return self._left(number) is not None

    def damaged(self, number: int) -> bool:
        """Whether a file of the finished part ``number`` has other bytes than were written."""
        left = self._left(number)
        try:
            for entry in [] if left is None else entries_of(left):
                entry.check_hash(self.part(number))
        except (StoreError, ValidationError, KeyError, TypeError) as error:
            log.warning("part %d: %s", number, error)
            return True
        return False

    def give_back(self, number: int, *, damaged: bool) -> None:
        """Make part ``number`` unfinished if it is ``damaged`` or has other statistics than all share; alone.

        What is whole in it is kept for its process, as after a kill.
        """
        left = self._left(number)
        if left is None or not (damaged or left["static"]["sha256"] != sha256(self._static)):
            return
        partial = partial_of(self.part(number))
        shutil.rmtree(partial, ignore_errors=True)
        self.part(number).replace(partial)

    def put_together(self, names: Sequence[str]) -> None:
        """Make of the parts what an interrupted run has left that had done all shards ``names``; alone.

        Raises :class:`StoreError` for a part that is damaged. Its process does the bad shards again when the same
        command is run again.
        """
        try:
            put_together(self.folder, self.out, self.identity, names)
        except StoreError:
            for number in range(self.size):
                self.give_back(number, damaged=self.damaged(number))
            raise

    def _left(self, number: int) -> dict[str, Any] | None:
        try:
            left = read_json(self.part(number) / PROGRESS)
        except DataError:
            return None
        return left if isinstance(left, dict) and left.get("identity") == self.identity else None

    @property
    def _lock(self) -> Path:
        return self.folder.with_name(self.folder.name + ".lock")

    @property
    def _static(self) -> Path:
        digest = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()
        return self.folder / f"static-{digest[:16]}.safetensors"
