"""Pictures of ``response_format: url``: in memory, for a while, under names that cannot be guessed."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

PATH = "/v1/images/files/"
"""Where they are fetched, ``.png`` behind their name."""


@dataclass(frozen=True)
class _Kept:
    content: bytes
    until: float


class FilesStore:
    """At most ``max_bytes`` of pictures, each for ``seconds``; the one that was longest unasked-for goes first."""

    def __init__(self, max_bytes: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._clock = clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def put(self, content: bytes) -> str:
        """Keep ``content`` and return its name, 128 random bits. One larger than the whole store is not kept at all."""
        name = secrets.token_urlsafe(16)
        with self._lock:
            self._drop_old()
            if len(content) <= self._max_bytes:
                self._kept[name] = _Kept(content, self._clock() + self._seconds)
                self._size += len(content)
            while self._size > self._max_bytes:
                self._drop(next(iter(self._kept)))
        return name

    def get(self, name: str) -> bytes | None:
        """The picture, or None when it is unknown, too old, or had to make room."""
        with self._lock:
            self._drop_old()
            kept = self._kept.get(name)
            if kept is None:
                return None
            self._kept.move_to_end(name)
            return kept.content

    def _drop_old(self) -> None:
        now = self._clock()
        for name in [name for name, kept in self._kept.items() if kept.until <= now]:
            self._drop(name)

    def _drop(self, name: str) -> None:
        self._size -= len(self._kept.pop(name).content)
