"""Tar shards in WebDataset layout: ``<id>.png`` or ``<id>.jpg``, ``<id>.json``, ``<id>.txt`` and further parts.

The same records give the same bytes.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from eclipse.data.records import Record, Shard
from eclipse.errors import DataError
from eclipse.files import sha256

_IMAGES = ("png", "jpg")
_JPEG = b"\xff\xd8\xff"
_PARTS = (*_IMAGES, "json", "txt")
_EXTRA = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9]+)+")  # has a dot, so it is none of the above


class ShardWriter:
    """Writes one split's records to ``<folder>/shards/<split>-00000.tar`` and so on; use as a context manager.

    After the ``with`` block, ``shards`` lists what was written, with counts and SHA-256. ``folder`` is to be inside
    :func:`eclipse.files.atomic_folder`, which removes everything if the writer fails half-way.
    """

    def __init__(self, folder: Path, split: str, shard_size: int) -> None:
        self.shards: list[Shard] = []
        self._folder, self._split, self._size = folder, split, shard_size
        self._stack = ExitStack()
        self._tar: tarfile.TarFile | None = None
        self._path = folder
        self._count = 0
        self._last = ""

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: Any, trace: Any) -> None:
        if kind is None:
            self._finish()
        self._stack.__exit__(kind, value, trace)

    def add(self, record: Record) -> None:
        """Append ``record``; ids must ascend, or readers could not rely on their order.

        An extra part's name is lower-case and has an extension (``subject0.png``); others are a :class:`DataError`.
        """
        if record.id <= self._last or not record.id or set(record.id) & set("./\\"):
            raise DataError(f"record id {record.id!r} in {self._split}: ids must ascend and hold no dot or slash")
        for part in record.extras:
            if not _EXTRA.fullmatch(part):
                raise DataError(f"record {record.id}: extra part {part!r}: name it like subject0.png, in lower case")
        if self._tar is not None and self._count == self._size:
            self._finish()
        tar = self._tar or self._begin()
        for part, content in _parts(record):
            member = tarfile.TarInfo(f"{record.id}.{part}")  # mtime, uid and gid are 0: same records, same bytes
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        self._last = record.id
        self._count += 1

    def _begin(self) -> tarfile.TarFile:
        self._path = self._folder / "shards" / f"{self._split}-{len(self.shards):05d}.tar"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        tar = tarfile.open(self._path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 (the stack closes it)
        self._tar = self._stack.enter_context(tar)
        self._count = 0
        return tar

    def _finish(self) -> None:
        if self._tar is None:
            return
        self._stack.close()
        self._tar = None
        file = self._path.relative_to(self._folder).as_posix()
        size = self._path.stat().st_size
        self.shards.append(Shard(file=file, count=self._count, sha256=sha256(self._path), bytes=size))


def read_shard(path: Path) -> Iterator[Record]:
    """Yield the records of one shard in order. Damage is a :class:`DataError` that names shard and member."""
    parts: dict[str, bytes] = {}
    current = ""
    for name, content in read_members(path):
        key, _, part = name.partition(".")
        if key != current and parts:
            yield _record(path, current, parts)
            parts = {}
        current = key
        parts[part] = content
    if parts:
        yield _record(path, current, parts)


def read_meta(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (id, meta) of the records of one shard; their pictures are passed over unread."""
    for name, content in read_members(path, ".json"):
        try:
            yield name.partition(".")[0], dict(json.loads(content.decode())["meta"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: member {name} is damaged ({error!r}); run the dataset stage again") from None


def read_members(path: Path, suffix: str = "") -> Iterator[tuple[str, bytes]]:
    """Yield (name, bytes) of a tar file's regular members whose name ends in ``suffix``.

    An unreadable or cut-off tar is a :class:`DataError`.
    """
    name = "its first member"
    try:
        with tarfile.open(path, "r:*") as tar:
            for member in tar:
                if not (member.isfile() and member.name.endswith(suffix)):
                    continue
                name = member.name
                opened = tar.extractfile(member)
                content = opened.read() if opened else b""
                if len(content) != member.size:
                    raise tarfile.ReadError("unexpected end of data")
                yield name, content
            check_end(tar)
    except FileNotFoundError:
        raise DataError(f"{path}: no such shard; run the stage that writes it again") from None
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{path}: unreadable at {name} ({_line(error)}); replace this shard") from None


def _parts(record: Record) -> list[tuple[str, bytes]]:
    described = json.dumps({"caption": record.caption, "meta": record.meta}, sort_keys=True, ensure_ascii=False)
    image = "jpg" if record.image.startswith(_JPEG) else "png"
    own = [(image, record.image), ("json", described.encode()), ("txt", record.caption.encode())]
    return [*own, *sorted(record.extras.items())]


def _record(path: Path, key: str, parts: dict[str, bytes]) -> Record:
    image = next((parts[part] for part in _IMAGES if part in parts), None)
    missing = "png" if image is None else None if "json" in parts else "json"
    if image is None or missing is not None:
        raise DataError(f"{path}: member {key}.{missing} is missing; run the dataset stage again")
    try:
        described: dict[str, Any] = json.loads(parts["json"].decode())
        extras = {part: content for part, content in parts.items() if part not in _PARTS}
        return Record(key, described["caption"], image, described["meta"], extras)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: member {key}.json is damaged ({error!r}); run the dataset stage again") from None


def check_end(tar: tarfile.TarFile) -> None:
    """Raise :class:`tarfile.ReadError` if ``tar``, read to its end, has none.

    Python's tarfile takes a cut-off or damaged header for the end; the true end is marked by zeros.
    """
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("what follows is cut off or damaged")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
