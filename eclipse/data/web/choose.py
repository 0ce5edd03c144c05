"""A list of URLs to the part of it that is taken: filtered, sampled by stable hashes, written in their order.

A row's draw is a hash of what it is (URL, captions) and of the seed, and the N smallest are taken. So the sample is
uniform, and the same whatever the order of the list and the files that it is split among.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm import tqdm

from eclipse.config.data import WebParams
from eclipse.data.takedown import Takedown
from eclipse.data.web.filters import NUMBERS, passing
from eclipse.data.web.lists import scan
from eclipse.data.web.subset import ListFormat
from eclipse.errors import DataError

SAVED = ("id", "license", "similarity", "punsafe", "pwatermark", "list_width", "list_height", "more_captions")
"""Columns of the chosen list beside ``url`` and ``caption``; img2dataset carries them on. Kept ones come behind."""
_NUMBERS = (
    "list_width",
    "list_height",
    "similarity",
    "punsafe",
    "pwatermark",
)  # as NUMBERS, in names img2dataset leaves free
_ROWS = 500_000  # of one file of the chosen list, about: img2dataset reads a file as a whole


@dataclass(frozen=True)
class Chosen:
    """What was read, taken, and left out by which reason; ``licences`` of what was taken."""

    listed: int
    taken: int
    dropped: dict[str, int]
    licences: dict[str, int]


def record_id(url: str, captions: list[str]) -> str:
    """A record's stable id, 32 hexadecimal digits: it depends on URL and captions alone."""
    return hashlib.sha256("\0".join((url, *captions)).encode()).hexdigest()[:32]


def draw(id: str, seed: int) -> int:
    """The record's place in the lottery of ``seed``, uniform below 2⁶⁴."""
    return int.from_bytes(hashlib.sha256(f"{seed} {id}".encode()).digest()[:8], "big")


def choose(
    path: Path, form: ListFormat, web: WebParams, takedown: Takedown, *, seed: int, shard_size: int, out: Path
) -> Chosen:
    """Write the chosen rows of the list ``path`` to ``out``/00000.parquet and so on, in the order of their draws.

    Every file but the last holds a multiple of ``shard_size`` rows. Reads the list twice; holds 8 bytes for each row
    that passes the filters, at most thrice ``web.subset`` where that is given, and one file's rows. Raises
    :class:`DataError` if no row is left.
    """
    dropped: Counter[str] = Counter()
    if form.format != "coco" and None in (form.columns.width, form.columns.height):
        web = web.model_copy(update={"min_side": None, "max_aspect": None})  # img2dataset will look at the picture
    kept = _draws(path, form, web, takedown, seed, dropped)
    if not len(kept):
        raise DataError(f"{path}: no row passes; left out: {dict(sorted(dropped.items())) or 'nothing'}")
    rows = max(shard_size, _ROWS // shard_size * shard_size)
    _spool(path, form, web, takedown, seed, kept, rows, out)
    licences: Counter[str] = Counter()
    taken = 0
    for spooled in sorted(out.glob("*.spool")):
        table = _in_order(pq.read_table(spooled))
        pq.write_table(table, spooled.with_suffix(".parquet"), row_group_size=shard_size)
        spooled.unlink()
        taken += len(table)
        licences.update({str(one["values"]): one["counts"] for one in pc.value_counts(table["license"]).to_pylist()})
    dropped["duplicate_or_not_drawn"] = dropped["passed"] - taken
    passed = dropped.pop("passed")
    listed = passed + sum(count for reason, count in dropped.items() if reason != "duplicate_or_not_drawn")
    return Chosen(listed, taken, {k: v for k, v in sorted(dropped.items()) if v}, dict(sorted(licences.items())))


def _draws(
    path: Path, form: ListFormat, web: WebParams, takedown: Takedown, seed: int, dropped: Counter[str]
) -> NDArray[np.uint64]:
    """The draws of all rows that are taken, ascending, each once; the rows that passed are counted as ``passed``."""
    kept, fresh, size = np.empty(0, np.uint64), [], 0
    for table in tqdm(scan(path, form, dropped), desc="filter", unit=" batches", mininterval=1.0):
        draws = [draw(row.id, seed) for row in _passing(table, web, takedown, dropped)]
        dropped["passed"] += len(draws)
        fresh.append(np.array(draws, np.uint64))
        size += len(draws)
        if size > max(web.subset or 0, 1 << 20):
            kept, fresh, size = _smallest([kept, *fresh], web.subset), [], 0
    return _smallest([kept, *fresh], web.subset)


def _smallest(draws: list[NDArray[np.uint64]], count: int | None) -> NDArray[np.uint64]:
    return np.unique(np.concatenate(draws))[:count]


@dataclass(frozen=True)
class _Row:
    place: int
    id: str
    url: str
    captions: list[str]


def _passing(table: pa.Table, web: WebParams, takedown: Takedown, dropped: Counter[str]) -> Iterator[_Row]:
    """The rows of a batch that are sound, pass the filters and are not taken down; the others are counted."""
    numbers = {name: np.nan_to_num(table[name].to_numpy(), nan=np.nan) for name in NUMBERS}
    mask, counts = passing(numbers, web)
    dropped.update(counts)
    places = np.flatnonzero(mask)
    picked = table.select(["url", "caption", "more_captions"]).take(places)
    columns = (picked[name].to_pylist() for name in picked.column_names)
    for place, url, caption, more in zip(places, *columns, strict=True):
        read = _sound(url, [caption, *(more or ())])
        if isinstance(read, str):
            dropped[read] += 1
            continue
        row = _Row(int(place), record_id(*read), *read)
        if takedown and takedown.says(url=row.url, id=row.id, sha256=None):
            dropped["takedown"] += 1
        else:
            yield row


def _sound(url: bytes | None, captions: list[bytes | None]) -> tuple[str, list[str]] | str:
    """The URL and its captions, single-spaced, empty ones left out; or the reason why the row cannot be used."""
    try:
        where = (url or b"").decode("utf-8").strip()
    except UnicodeDecodeError:
        return "bad_url"
    if not where.lower().startswith(("http://", "https://")):
        return "bad_url"
    try:
        texts = [" ".join((caption or b"").decode("utf-8").split()) for caption in captions]
    except UnicodeDecodeError:
        return "caption_not_utf8"
    texts = [text for text in texts if text]
    return (where, texts) if texts else "empty_caption"


def _spool(
    path: Path,
    form: ListFormat,
    web: WebParams,
    takedown: Takedown,
    seed: int,
    kept: NDArray[np.uint64],
    rows: int,
    out: Path,
) -> None:
    """Sort the rows whose draw is in ``kept`` into files by its place there, ``rows`` places each."""
    writers: dict[int, Any] = {}
    try:
        for table in tqdm(scan(path, form), desc="choose", unit=" batches", mininterval=1.0):
            found = [(row, draw(row.id, seed)) for row in _passing(table, web, takedown, Counter())]
            draws = np.array([one[1] for one in found], np.uint64)
            ranks = np.searchsorted(kept, draws)
            taken = np.flatnonzero((ranks < len(kept)) & (kept[np.minimum(ranks, len(kept) - 1)] == draws))
            if not len(taken):
                continue
            made = _written(table, [found[i] for i in taken], form)
            files = ranks[taken] // rows
            for file in np.unique(files):
                part = made.take(np.flatnonzero(files == file))
                writer = writers.get(int(file)) or pq.ParquetWriter(out / f"{file:05d}.spool", part.schema)
                writers[int(file)] = writer
                writer.write_table(part)
    finally:
        for writer in writers.values():
            writer.close()


def _written(table: pa.Table, found: list[tuple[_Row, int]], form: ListFormat) -> pa.Table:
    rows = [row for row, _ in found]
    taken = table.take([row.place for row in rows])
    columns = {
        "url": pa.array([row.url for row in rows], pa.string()),
        "caption": pa.array([row.captions[0] for row in rows], pa.string()),
        "more_captions": pa.array([row.captions[1:] or None for row in rows], pa.list_(pa.string())),
        "id": pa.array([row.id for row in rows], pa.string()),
        "draw": pa.array([number for _, number in found], pa.uint64()),
        "license": taken["license"],
        **{ours: taken[name] for ours, name in zip(_NUMBERS, NUMBERS, strict=True)},
        **{f"list_{name}": taken[f"list_{name}"] for name in form.keep},
    }
    return pa.table(columns)


def _in_order(table: pa.Table) -> pa.Table:
    """By draw, each record once: of rows that differ in metadata only, the same one whatever the list's order."""
    names = [name for name in table.column_names if name != "draw"]
    rows = table.select(names).to_pylist()
    ties = [json.dumps(row, sort_keys=True) for row in rows]
    draws = table["draw"].to_pylist()
    order = sorted(range(len(rows)), key=lambda i: (draws[i], rows[i]["id"], ties[i]))
    first = [i for n, i in enumerate(order) if n == 0 or rows[i]["id"] != rows[order[n - 1]]["id"]]
    return table.select(names).take(first)
