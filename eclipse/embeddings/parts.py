"""A dataset embedded by several machines: each writes a part of the store, and the parts are put together."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from eclipse.embeddings.header import FileEntry, ShardEntry
from eclipse.embeddings.writer import PROGRESS, partial_of
from eclipse.errors import ConfigError, StoreError
from eclipse.files import read_json, write_json

T = TypeVar("T")


def parse_part(text: str) -> tuple[int, int]:
    """``I/N`` as numbers; anything else, or I outside 0 … N − 1, is a :class:`ConfigError`."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None or int(found[1]) >= int(found[2]):
        raise ConfigError(f"part {text!r}: write I/N with 0 ≤ I < N, for example 0/4 to 3/4")
    return int(found[1]), int(found[2])


def share(work: Sequence[T], part: tuple[int, int]) -> Sequence[T]:
    """The range of ``work`` that is part (i, n) of it: n ranges cover all, and their lengths differ by one at most."""
    i, n = part
    return work[i * len(work) // n : (i + 1) * len(work) // n]


def put_together(parts: Path, out: Path, identity: dict[str, Any], names: Sequence[str]) -> None:
    """Make of the folders in ``parts`` what an interrupted run has left that had done all shards ``names`` of ``out``.

    ``identity`` is the one that :class:`StoreWriter` is made with. Every file's bytes are checked. Raises
    :class:`StoreError` for a part of another identity or other statistics, a damaged file, and a shard in no part.
    """
    partial = partial_of(out)
    shutil.rmtree(partial, ignore_errors=True)
    whole: dict[str, Any] = {"identity": identity, "shards": {}}
    for folder in _folders(parts):
        left = read_json(folder / PROGRESS)
        if left.get("identity") != identity:
            raise StoreError(f"{folder}: of another encoder, dataset or configuration; embed this part again")
        if whole.setdefault("static", left["static"]) != left["static"]:
            raise StoreError(
                f"{folder}: its channel statistics are not those of the other parts; embed all of them on the same "
                "kind of machine"
            )
        for entry in entries_of(left):
            entry.check_hash(folder)
            _link(folder / entry.file, partial / entry.file)
        whole["shards"] |= left["shards"]
    missing = [name for name in names if name not in whole["shards"]]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise StoreError(f"{parts}: shard {missing[0]}{more} in no part; run embed --part I/N for every I below N")
    write_json(partial / PROGRESS, whole)


def _folders(parts: Path) -> list[Path]:
    """The finished parts; a kill may leave unfinished and replaced ones beside them."""
    there = (path.parent for path in parts.glob(f"*/{PROGRESS}"))
    found = sorted(folder for folder in there if not folder.name.startswith(".") and folder.suffix != ".partial")
    if not found:
        raise StoreError(f"{parts}: holds no parts of a store; run embed --part I/N --out {parts}/I first")
    return found


def entries_of(left: dict[str, Any]) -> Iterator[FileEntry]:
    """The files that a part's progress.json tells of."""
    yield FileEntry(**left["static"])
    for note in left["shards"].values():
        shard = ShardEntry(**note["entry"])
        yield from (shard, shard.table)


def _link(source: Path, target: Path) -> None:
    """A second name for the same bytes, or a copy where the file system has no such names."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
