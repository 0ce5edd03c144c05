"""First look at what img2dataset fetched: every picture decoded once, and noted with its caption and fingerprint."""

from __future__ import annotations

import hashlib
import json
import math
import tarfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from eclipse.config.data import DataParams
from eclipse.data.dedupe import fingerprint
from eclipse.data.images import BombError, decode_png
from eclipse.data.shards import check_end
from eclipse.data.web.choose import draw, record_id
from eclipse.data.web.filters import NUMBERS, passing
from eclipse.data.web.removed import PART, read_stone, stone
from eclipse.errors import DataError
from eclipse.files import atomic_folder, write_json

RECORDS, COLOURS, COUNTS = "records.parquet", "colours.npy", "counts.json"
_PICTURES = ("jpg", "jpeg", "png", "webp")
_METADATA = {  # of a filter's number: what the lists of the web and img2dataset call it
    "width": ("original_width", "list_width"),
    "height": ("original_height", "list_height"),
    "similarity": ("similarity",),
    "unsafe": ("punsafe",),
    "watermark": ("pwatermark",),
}
_TELLS_OF_NOBODY = {"license", *(name for names in _METADATA.values() for name in names)}
_DROPPED_FIELDS = {"caption", "more_captions", "key", "status", "error_message", "exif"}
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("caption", pa.string()),
        ("picture", pa.int32()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("phash", pa.uint64()),
        ("draw", pa.uint64()),
        ("url", pa.string()),
        ("id", pa.string()),
        ("sha256", pa.string()),
        ("fields", pa.string()),
        ("removed", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class ScanJob:
    """One source shard, and the folder that its notes go to."""

    tar: Path
    out: Path
    params: DataParams


def scan_shard(job: ScanJob) -> None:
    """Note the sound records of ``job.tar`` that pass the filters, in the order of their keys, to ``job.out``.

    records.parquet has :data:`SCHEMA`, a row for each caption; ``picture`` counts the pictures of the shard, and
    ``offset`` and ``size`` say where in the tar one lies. colours.npy is uint8 [pictures, 16, 16, 3], counts.json what
    was left out. img2dataset writes in the order of arrival, which is another in each run. Nothing is done if the
    folder is there already. ``removed``: only a stone of it is left (:mod:`eclipse.data.web.removed`).
    """
    if (job.out / COUNTS).is_file():
        return
    dropped: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    colours: list[Any] = []
    with job.tar.open("rb") as file:
        for key, parts in sorted(_index(job.tar).items()):
            sound = _sample(file, key, parts, job, dropped)
            if sound is not None:
                rows.extend(row | {"picture": len(colours)} for row in sound[0])
                colours.append(sound[1])
    with atomic_folder(job.out) as folder:
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / RECORDS)
        np.save(folder / COLOURS, np.array(colours, np.uint8).reshape(-1, 16, 16, 3))
        write_json(folder / COUNTS, {"dropped": dict(dropped), "pictures": len(colours), "rows": len(rows)})


def _index(tar: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """Key → part → (offset, size) of the members of a tar; pictures are passed over unread."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with tarfile.open(tar, "r:") as opened:
            for member in opened:
                key, _, part = Path(member.name).name.partition(".")
                if member.isfile():
                    found.setdefault(key, {})[part.lower()] = (member.offset_data, member.size)
            check_end(opened)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{tar}: unreadable ({error}); delete it and its _stats.json, and ingest again") from None
    return found


def _sample(
    file: Any, key: str, parts: dict[str, tuple[int, int]], job: ScanJob, dropped: Counter[str]
) -> tuple[list[dict[str, Any]], Any] | None:
    """The rows of one picture's captions, and its colours; None if it is left out, which is counted."""
    if PART in parts:
        return _removed(_read(file, parts[PART]), key, job, dropped)
    where = next((parts[part] for part in _PICTURES if part in parts), None)
    described = _json(_read(file, parts["json"])) if "json" in parts else {}
    captions = _captions(file, parts, described or {})
    count = len(captions) or 1  # a record each, also in what is left out
    if where is None or described is None:
        dropped["missing_image" if where is None else "bad_metadata"] += count
        return None
    reason = _unwanted(described, job.params)
    if reason or not captions:
        dropped[reason or "empty_caption"] += count
        return None
    content = _read(file, where)
    try:
        seen = fingerprint(decode_png(content, f"{job.tar}: {key}"))
    except DataError as error:
        dropped["image_too_large" if isinstance(error, BombError) else "damaged_image"] += count
        return None
    row = {"key": key, "offset": where[0], "size": where[1], "phash": seen.structure, "removed": False}
    row |= _identity(content, described, captions, job.params.seed)
    return [row | {"caption": caption} for caption in captions], seen.colours


def _removed(content: bytes, key: str, job: ScanJob, dropped: Counter[str]) -> tuple[list[dict[str, Any]], Any] | None:
    """As :func:`_sample`, of a record of which only the stone is left."""
    id, seen, captions, described = read_stone(content, f"{job.tar}: {key}")
    reason = _unwanted(described, job.params)
    if reason:
        dropped[reason] += len(captions)
        return None
    row = {"key": key, "offset": 0, "size": 0, "phash": seen.structure, "draw": draw(id, job.params.seed)}
    row |= {"url": None, "id": id, "sha256": None, "fields": "{}", "removed": True}
    return [row | {"caption": caption} for caption in captions], seen.colours


def stones(tar: Path, keys: set[str]) -> dict[str, bytes]:
    """What is to stand for each of ``keys`` of a shard once it is removed; nothing for what no dataset would take."""
    found = {}
    parts_of = _index(tar)
    with tar.open("rb") as file:
        for key in sorted(keys & parts_of.keys()):
            parts = parts_of[key]
            where = next((parts[part] for part in _PICTURES if part in parts), None)
            described = _json(_read(file, parts["json"])) if "json" in parts else {}
            captions = _captions(file, parts, described or {})
            if where is None or described is None or not captions:
                continue
            content = _read(file, where)
            try:
                seen = fingerprint(decode_png(content, key))
            except DataError:
                continue
            id = str(_identity(content, described, captions, 0)["id"])
            kept = {name: value for name, value in described.items() if name in _TELLS_OF_NOBODY}
            found[key] = stone(id, seen, len(captions), kept)
    return found


def _identity(content: bytes, described: dict[str, Any], captions: list[str], seed: int) -> dict[str, Any]:
    """What a record is known by; made here where a list or img2dataset did not say it."""
    url = str(described.get("url") or "")
    id = str(described.get("id") or record_id(url, captions))
    total = str(described.get("sha256") or hashlib.sha256(content).hexdigest())
    said = {name: value for name, value in described.items() if name not in _DROPPED_FIELDS}
    fields = {"license": None, **said, "url": url, "id": id, "sha256": total}
    return {"url": url, "id": id, "sha256": total, "draw": draw(id, seed), "fields": json.dumps(fields, sort_keys=True)}


def _unwanted(described: dict[str, Any], params: DataParams) -> str | None:
    """Why metadata alone leaves a record out, if it does."""
    if any(str(described.get(key)) in values for key, values in params.drop.items()):
        return "excluded"
    numbers = {name: np.array([_number(described, _METADATA[name])]) for name in NUMBERS}
    _, counts = passing(numbers, params.web)
    return next(iter(counts), None)


def _number(described: dict[str, Any], names: tuple[str, ...]) -> float:
    values = (described.get(name) for name in names)
    return next((float(value) for value in values if isinstance(value, int | float)), math.nan)


def _captions(file: Any, parts: dict[str, tuple[int, int]], described: dict[str, Any]) -> list[str]:
    """The captions, single-spaced, each once; empty ones and what is no text are left out."""
    text = described.get("caption")
    first = _read(file, parts["txt"]).decode("utf-8", "replace") if "txt" in parts and not text else text
    more = described.get("more_captions") or []
    texts = [" ".join(one.split()) for one in (first, *more) if isinstance(one, str) and "\ufffd" not in one]
    return list(dict.fromkeys(text for text in texts if text))


def _json(content: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(content.decode())
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _read(file: Any, where: tuple[int, int]) -> bytes:
    file.seek(where[0])
    return bytes(file.read(where[1]))
