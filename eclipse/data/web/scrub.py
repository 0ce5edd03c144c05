"""Takes records out of what was fetched already, bytes and all, and out of the list, so that they do not come back."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from eclipse.data.takedown import Takedown
from eclipse.data.web.outcome import TAKEN_DOWN as STATUS
from eclipse.data.web.removed import PART
from eclipse.data.web.scan import stones
from eclipse.files import atomic_file

TAKEN_DOWN = "takedown:"
"""Stands for the URL of a row that was removed. The row itself stays, or the shards behind it would be others."""


def scrub(out: Path, takedown: Takedown) -> int:
    """Remove what is on the takedown list, but by the looks of a picture, from ``out``; returns how many records.

    In the tables URL, captions and everything else that tells of them becomes null; in the tars a stone
    stands for each (:mod:`eclipse.data.web.removed`). What perceptual hashes name is left to the dataset stage, which
    looks at all pictures.
    """
    if not takedown:
        return 0
    removed = 0
    for path in sorted((out / "shards").glob("*.parquet")):
        if path.with_name(f"{path.stem}_stats.json").is_file():  # others are about to be fetched again
            removed += _scrub_shard(path, takedown)
    for path in sorted((out / "list").glob("*.parquet")):
        listed = _listed(path, takedown)
        if listed:
            _blank(path, pq.read_table(path), listed)
    return removed


def _scrub_shard(path: Path, takedown: Takedown) -> int:
    listed = _listed(path, takedown)
    if not listed:
        return 0
    table = pq.read_table(path)
    keys = {table["key"][i].as_py() for i in listed}
    tar = path.with_suffix(".tar")
    with atomic_file(tar) as beside:  # the tar first: while the table still lists them, a killed run is repeated
        _without(tar, keys, beside)
    _blank(path, table, listed)
    return len(listed)


def _listed(path: Path, takedown: Takedown) -> list[int]:
    """The rows of a table that are on the list."""
    wanted = ("url", "id", "sha256")
    table = pq.read_table(path, columns=[name for name in wanted if name in pq.read_schema(path).names])
    nothing = [None] * len(table)
    columns: list[Any] = [table[name].to_pylist() if name in table.column_names else nothing for name in wanted]
    rows = enumerate(zip(*columns, strict=True))
    return [
        i
        for i, (url, id, total) in rows
        if url != TAKEN_DOWN and takedown.says(url=url, id=id, sha256=total) is not None
    ]


def _without(tar: Path, keys: set[str], out: Path) -> None:
    """Copy ``tar`` without ``keys``, with stones for them; those of an earlier run that was killed stay."""
    placed = stones(tar, keys)
    with tarfile.open(tar) as source, tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as target:
        for member in source:
            key, _, part = member.name.partition(".")
            if key not in keys or part == PART:
                target.addfile(member, source.extractfile(member))
        for key, content in placed.items():
            member = tarfile.TarInfo(f"{key}.{PART}")
            member.size = len(content)
            target.addfile(member, io.BytesIO(content))


def _blank(path: Path, table: pa.Table, listed: list[int]) -> None:
    """Write ``table`` to ``path`` with nothing left of the rows ``listed`` but their place and key."""
    gone = set(listed)
    columns = {}
    for name in table.column_names:
        values = table[name].to_pylist()
        left = {"url": TAKEN_DOWN, "caption": "", "status": STATUS}.get(name)
        if name != "key":
            values = [left if i in gone else value for i, value in enumerate(values)]
        columns[name] = pa.array(values, table.schema.field(name).type)
    with atomic_file(path) as beside:
        pq.write_table(pa.table(columns, schema=table.schema), beside)
