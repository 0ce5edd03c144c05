"""What img2dataset fetched, of any size, to a dataset: shard by shard, in processes, resumable."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from eclipse.config.data import DataParams
from eclipse.data.benchmarks import load_benchmarks
from eclipse.data.held import listed_captions
from eclipse.data.images import decode_png, encode_png
from eclipse.data.manifest import Manifest, Split, params_digest
from eclipse.data.partial import Partial, digest
from eclipse.data.records import TRAIN, Record, Shard
from eclipse.data.takedown import load_takedown
from eclipse.data.web.jobs import each
from eclipse.data.web.scan import COUNTS, RECORDS, ScanJob, scan_shard
from eclipse.data.web.sort import Place, Sorted, sort_records
from eclipse.errors import DataError
from eclipse.files import read_json, write_json

AUDIT, SUMMARY = "audit.jsonl", "web.json"
_VERSION = 2  # of what is made of the same input; raise it when that changes
_KEPT = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


@dataclass(frozen=True)
class _MakeJob:
    out: Path
    identity: dict[str, Any]
    name: str
    split: str
    places: tuple[Place, ...]
    tars: tuple[Path, ...]
    scans: tuple[Path, ...]


def build(params: DataParams, out: Path) -> Manifest:
    """Write the dataset ``out`` of the shards in ``params.path`` and return its manifest.

    Beside manifest and shards there are web.json (records in and out with shares, licences, what was checked) and
    audit.jsonl (each picture that was left out as a benchmark's). Killed and run again, it goes on after the last
    finished shard and ends in the same bytes, whatever ``data.web.workers``. Raises :class:`DataError` where there are
    no shards, one is unreadable, or no record is left for training.
    """
    tars = source_shards(params.path)
    takedown = load_takedown(params.web.takedown)
    benchmarks = load_benchmarks(params.web.benchmarks)
    states = [[tar.name, tar.stat().st_size, tar.stat().st_mtime_ns] for tar in tars]
    identity = {"version": _VERSION, "params": params_digest(params), "takedown": takedown.digest, "tars": states}
    identity |= {"benchmarks": digest([benchmarks.hashes.tolist(), sorted(benchmarks.prompts)])}
    identity["cells"] = None if params.cells is None else sorted(listed_captions(params.cells))
    partial = Partial(out, identity, shared=False)
    # By identity: notes of other filters may lie there, of a run that still works or was killed while it cleared up.
    scans = tuple(partial.folder / f"scan-{digest(identity)[:16]}" / tar.stem for tar in tars)
    each(scan_shard, [ScanJob(*pair, params) for pair in zip(tars, scans, strict=True)], params.web.workers, "scan")
    made = sort_records(scans, params, benchmarks, takedown)
    if not any(made.shards[TRAIN]):
        raise DataError(f"{params.path}: no record is left for training; dropped: {dict(_dropped(scans, made))}")
    jobs = [
        _MakeJob(out, identity, f"{split}-{number:05d}", split, tuple(places), tars, scans)
        for split, shards in made.shards.items()
        for number, places in enumerate(shards)
    ]
    each(_make, jobs, params.web.workers, "write")
    return _publish(params, partial, jobs, scans, made, takedown.digest)


def source_shards(path: Path | None) -> tuple[Path, ...]:
    """The tar shards in ``path``, or in its folder ``shards``, in the order of their names."""
    found = [] if path is None else sorted((path / "shards").glob("*.tar")) or sorted(path.glob("*.tar"))
    if not found:
        raise DataError(f"data.path: {path}: no tar shards there; run `python -m eclipse ingest` first")
    unfinished = [tar for tar in found if not tar.with_name(f"{tar.stem}_stats.json").is_file()]
    if 0 < len(unfinished) < len(found):  # none at all: somebody tidied up
        raise DataError(f"{unfinished[0]}: img2dataset has not finished it; run `python -m eclipse ingest` to its end")
    return tuple(found)


def _make(job: _MakeJob) -> None:
    partial = Partial(job.out, job.identity, shared=True)
    if partial.finished(job.name):
        return
    tables: dict[int, Any] = {}
    licences: Counter[str] = Counter()
    records = []
    for place in job.places:
        if place.shard not in tables:
            columns = ["key", "caption", "offset", "size", "phash", "fields"]
            tables = {place.shard: pq.read_table(job.scans[place.shard] / RECORDS, columns=columns)}
        row = tables[place.shard].slice(place.row, 1).to_pylist()[0]
        records.append(_record(job.tars[place.shard], place, row))
        licences[str(records[-1].meta["fields"].get("license"))] += 1
    partial.write(job.name, job.split, records, dict(licences))


def _record(tar: Path, place: Place, row: dict[str, Any]) -> Record:
    with tar.open("rb") as file:
        file.seek(row["offset"])
        content = file.read(row["size"])
    image = content if content.startswith(_KEPT) else encode_png(decode_png(content, f"{tar}: {row['key']}"))
    meta = {
        "source": f"{tar.name}/{row['key']}",
        "group": place.group,
        "cell": place.cell,
        "phash": f"{row['phash']:016x}",
        "fields": json.loads(row["fields"]),
    }
    return Record(place.id, row["caption"], image, meta)


def _dropped(scans: tuple[Path, ...], made: Sorted) -> Counter[str]:
    counts = Counter(made.dropped)
    for scan in scans:
        counts.update(read_json(scan / COUNTS)["dropped"])
    return Counter(dict(sorted(counts.items())))


def _publish(
    params: DataParams,
    partial: Partial,
    jobs: list[_MakeJob],
    scans: tuple[Path, ...],
    made: Sorted,
    takedown: str | None,
) -> Manifest:
    licences: dict[str, Counter[str]] = {split: Counter() for split in made.shards}
    shards: dict[str, list[Shard]] = {split: [] for split in made.shards}
    for job in jobs:
        note = partial.note(job.name)
        if note is None:
            raise DataError(f"{partial.folder}/{job.name}: has vanished; run the dataset stage again")
        shards[job.split].extend([note[0]] if note[0] is not None else [])
        licences[job.split].update(note[1])
    dropped = _dropped(scans, made)
    manifest = Manifest(
        source=params.source,
        seed=params.seed,
        params_digest=params_digest(params),
        splits={split: Split.of(found) for split, found in shards.items()},
        held_out=tuple(sorted("|".join(cell) for cell in made.held_out)),
        dropped=dict(dropped),
        takedown=takedown,
    )
    kept = sum(split.count for split in manifest.splits.values())
    total = kept + dropped.total()
    summary = {
        "records": {"found": total, "kept": kept},
        "shares": {reason: count / total for reason, count in dropped.items()},
        "licences": {split: dict(sorted(counts.items())) for split, counts in licences.items()},
        "benchmarks": {"pictures_left_out": len(made.audit), "captions_equal_to_prompts": made.prompts},
        "takedown": takedown,
    }
    with partial.publishing([shard for found in shards.values() for shard in found]) as folder:
        if folder is not None:
            manifest.save(folder)
            write_json(folder / SUMMARY, summary)
            lines = [json.dumps(one, sort_keys=True, ensure_ascii=False) + "\n" for one in made.audit]
            (folder / AUDIT).write_text("".join(lines), encoding="utf-8")
    return manifest
