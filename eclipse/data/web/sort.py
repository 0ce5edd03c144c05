"""Which of the scanned records get in, and where: sampled, checked against benchmarks, without duplicates, split."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from eclipse.config.data import DataParams
from eclipse.data.benchmarks import Benchmarks
from eclipse.data.held import items_of
from eclipse.data.near import group_near, near_pairs
from eclipse.data.records import SPLITS
from eclipse.data.split import Assignment, Cell, Item, assign, normalise
from eclipse.data.takedown import Takedown
from eclipse.data.web.scan import COLOURS, RECORDS
from eclipse.files import read_json


@dataclass(frozen=True)
class Place:
    """Where a record goes: its id, where it was scanned (shard, row), its group's name and its cell."""

    id: str
    shard: int
    row: int
    group: str
    cell: str | None


@dataclass
class Sorted:
    """``shards``: the places of each shard of each split. ``audit``: what was left out as a benchmark's."""

    shards: dict[str, list[list[Place]]]
    held_out: set[Cell]
    dropped: Counter[str]
    audit: list[dict[str, Any]] = field(default_factory=list)
    prompts: int = 0


@dataclass
class _Scanned:
    """All rows of all scans. ``starts`` int64 [shards + 1]: the first picture of each; ``picture`` counts over all."""

    captions: list[str]
    shard: NDArray[np.int64]
    row: NDArray[np.int64]
    picture: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    draws: NDArray[np.uint64]
    listed: NDArray[np.bool_]
    removed: NDArray[np.bool_]
    starts: NDArray[np.int64]


def sort_records(scans: Sequence[Path], params: DataParams, benchmarks: Benchmarks, takedown: Takedown) -> Sorted:
    """Decide over all records of ``scans`` (folders of :func:`eclipse.data.web.scan.scan_shard`, in order).

    What is on the takedown list goes last, and leaves its place empty: no other record moves to another shard or
    split, and no duplicate of it comes back. Of what was removed from the fetched shards too, captions are not known
    any more: the others keep their ids, and no duplicate comes back, but those behind it in its split move up by one
    place; and to another split those that only its captions joined, or that lose the last of a held-out cell with it.
    Holds captions, hashes and the split's groups of all records in memory.
    """
    scanned = _read(scans, takedown)
    made = Sorted({name: [] for name in SPLITS}, set(), Counter())
    kept = np.ones(len(scanned.captions), bool)
    _sample(scanned, params.web.subset, kept, made.dropped)
    _leave_out_benchmarks(scans, scanned, benchmarks, params.web.benchmark_distance, kept, made)
    same = _leave_out_duplicates(scans, scanned, params.dedupe_distance, kept, made.dropped)
    rows = np.flatnonzero(kept)
    captioned = ((scanned.captions[i], int(same[scanned.picture[i]])) for i in rows)
    items, made.held_out = items_of(captioned, params)
    assignment = assign(items, made.held_out, evaluation_share=params.evaluation_share, seed=params.seed)
    made.prompts = sum(normalise(scanned.captions[i]) in benchmarks.prompts for i in rows) if benchmarks.prompts else 0
    _place(scanned, rows, items, assignment, params.shard_size, made)
    return made


def _read(scans: Sequence[Path], takedown: Takedown) -> _Scanned:
    captions: list[str] = []
    parts: list[list[NDArray[Any]]] = []
    listed: list[bool] = []
    removed: list[bool] = []
    starts = [0]
    wanted = ["caption", "picture", "phash", "draw", "url", "id", "sha256", "removed"]
    for number, scan in enumerate(scans):
        table = pq.read_table(scan / RECORDS, columns=wanted)
        captions.extend(table["caption"].to_pylist())
        columns = [table[name].to_numpy() for name in ("picture", "phash", "draw")]
        parts.append([np.full(len(table), number), np.arange(len(table)), columns[0] + starts[-1], *columns[1:]])
        starts.append(starts[-1] + read_json(scan / "counts.json")["pictures"])
        removed.extend(table["removed"].to_pylist())
        if takedown:
            known = zip(*(table[name].to_pylist() for name in ("url", "id", "sha256", "phash")), strict=True)
            listed.extend(takedown.says(url=u, id=i, sha256=s, phash=p) is not None for u, i, s, p in known)
        else:
            listed.extend([False] * len(table))
    shard, row, picture = (np.concatenate([part[i] for part in parts]).astype(np.int64) for i in range(3))
    phash, draws = (np.concatenate([part[i] for part in parts]).astype(np.uint64) for i in (3, 4))
    hashes = np.zeros(starts[-1], np.uint64)
    hashes[picture] = phash
    gone, names = np.array(removed, bool), np.array(listed, bool)
    return _Scanned(captions, shard, row, picture, hashes, draws, names | gone, gone, np.array(starts))


def _sample(scanned: _Scanned, count: int | None, kept: NDArray[np.bool_], dropped: Counter[str]) -> None:
    """Keep the pictures with the ``count`` smallest draws; captions of one picture share its draw."""
    draws = np.unique(scanned.draws)
    if count is not None and len(draws) > count:
        _drop(kept, scanned.draws > draws[count - 1], "not_drawn", dropped)


def _leave_out_benchmarks(
    scans: Sequence[Path],
    scanned: _Scanned,
    benchmarks: Benchmarks,
    distance: int,
    kept: NDArray[np.bool_],
    made: Sorted,
) -> None:
    """By structure alone, whatever the colours: to leave out a few pictures too many costs nothing."""
    if not len(benchmarks.hashes):
        return
    nearest: dict[int, tuple[int, int]] = {}
    for i, j in near_pairs(scanned.hashes, benchmarks.hashes, distance):
        apart = np.bitwise_count(scanned.hashes[i] ^ benchmarks.hashes[j])
        for picture, bits, which in zip(i.tolist(), apart.tolist(), j.tolist(), strict=True):
            nearest[picture] = min(nearest.get(picture, (bits, which)), (bits, which))
    leaked = np.zeros(len(scanned.hashes), bool)
    leaked[list(nearest)] = True
    gone = np.flatnonzero(kept & leaked[scanned.picture] & ~scanned.listed)  # what was taken down is told of nowhere
    for one in gone.tolist():
        table = pq.read_table(scans[int(scanned.shard[one])] / RECORDS, columns=["key", "id", "url"])
        said = table.slice(int(scanned.row[one]), 1).to_pylist()[0]
        bits, which = nearest[int(scanned.picture[one])]
        made.audit.append({**said, "caption": scanned.captions[one], "is": benchmarks.names[which], "distance": bits})
    _drop(kept, leaked[scanned.picture], "benchmark_image", made.dropped)


def _leave_out_duplicates(
    scans: Sequence[Path], scanned: _Scanned, distance: int, kept: NDArray[np.bool_], dropped: Counter[str]
) -> NDArray[np.int64]:
    """For each picture the first that equals it, among those that are still kept; with -1 nothing is dropped."""
    present = np.unique(scanned.picture[kept])

    def colours(places: NDArray[np.int64]) -> NDArray[np.uint8]:
        pictures = present[places]
        shards = np.searchsorted(scanned.starts, pictures, "right") - 1
        found = [np.zeros((0, 16, 16, 3), np.uint8)]
        for shard in np.unique(shards):
            stored = np.load(scans[shard] / COLOURS, mmap_mode="r")
            found.append(stored[pictures[shards == shard] - scanned.starts[shard]])
        return np.concatenate(found)

    same = np.arange(len(scanned.hashes))
    same[present] = present[group_near(scanned.hashes[present], colours, max(distance, 0))]
    if distance >= 0:
        _drop(kept, (same != np.arange(len(same)))[scanned.picture], "duplicate_image", dropped)
    return same


def _drop(kept: NDArray[np.bool_], gone: NDArray[np.bool_], reason: str, dropped: Counter[str]) -> None:
    count = int((kept & gone).sum())
    if count:
        dropped[reason] += count
    kept &= ~gone


def _place(
    scanned: _Scanned,
    rows: NDArray[np.int64],
    items: list[Item],
    assignment: Assignment,
    size: int,
    made: Sorted,
) -> None:
    counts: Counter[str] = Counter()
    for i, item, split, group in zip(rows.tolist(), items, assignment.splits, assignment.groups, strict=True):
        if scanned.removed[i]:  # without its caption nobody knows its split
            made.dropped["takedown"] += 1
            continue
        if counts[split] % size == 0:
            made.shards[split].append([])
        counts[split] += 1
        if scanned.listed[i]:
            made.dropped["takedown"] += 1
            continue
        name = hashlib.sha256(group.encode()).hexdigest()[:16]  # the text may be another record's caption
        cell = None if item.cell is None else "|".join(item.cell)
        place = Place(f"{i:09d}", int(scanned.shard[i]), int(scanned.row[i]), name, cell)
        made.shards[split][-1].append(place)
