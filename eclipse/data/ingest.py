"""A person's own captioned images to a dataset: checked, fitted, without duplicates, split without leakage."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from eclipse.config.data import DataParams
from eclipse.data.dedupe import Fingerprint, fingerprint, group_same
from eclipse.data.held import items_of
from eclipse.data.images import BombError, encode_png, load_fitted
from eclipse.data.ingest_faults import Dropped
from eclipse.data.ingest_sources import Found, open_source
from eclipse.data.manifest import Manifest, Split, params_digest
from eclipse.data.records import SPLITS, TRAIN, Record
from eclipse.data.shards import ShardWriter
from eclipse.data.split import Assignment, Item, assign
from eclipse.errors import DataError
from eclipse.files import atomic_folder


class _Spool:
    """Fitted PNGs on disk between reading and writing; the file has no name and goes when it is closed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._places: list[tuple[int, int]] = []

    def add(self, content: bytes) -> None:
        self._places.append((self._file.seek(0, 2), len(content)))
        self._file.write(content)

    def get(self, index: int) -> bytes:
        start, size = self._places[index]
        self._file.seek(start)
        return self._file.read(size)


@dataclass
class _Intake:
    """Sound records: ``captions`` are (source, caption, picture, fields); ``pictures`` numbers the distinct files."""

    spool: _Spool
    captions: list[tuple[str, str, int, dict[str, Any]]] = field(default_factory=list)
    prints: list[Fingerprint] = field(default_factory=list)
    pictures: dict[str, int] = field(default_factory=dict)


def ingest(params: DataParams, out: Path) -> Manifest:
    """Write the dataset of ``params`` to the folder ``out``, whole or not at all, and return its manifest.

    Raises :class:`DataError` naming the file at the first damaged record, unless ``params.tolerate``.
    """
    dropped = Dropped(tolerate=params.tolerate)
    with atomic_folder(out) as folder, tempfile.TemporaryFile(dir=folder) as file:
        intake = _take_in(params, dropped, _Spool(file))
        kept, same = _without_duplicates(intake, params.dedupe_distance, dropped)
        items, held = items_of(((intake.captions[i][1], same[intake.captions[i][2]]) for i in kept), params)
        assignment = assign(items, held, evaluation_share=params.evaluation_share, seed=params.seed)
        if TRAIN not in assignment.splits:
            raise DataError(f"{params.path}: no record is left for training; dropped: {dropped.counts() or 'none'}")
        splits = _write(folder, params.shard_size, intake, kept, items, assignment)
        manifest = Manifest(
            source=params.source,
            seed=params.seed,
            params_digest=params_digest(params),
            splits=splits,
            held_out=tuple(sorted("|".join(cell) for cell in held)),
            dropped=dropped.counts(),
        )
        manifest.save(folder)
    return manifest


def _take_in(params: DataParams, dropped: Dropped, spool: _Spool) -> _Intake:
    intake = _Intake(spool)
    seen: set[str] = set()
    for found in tqdm(open_source(params, dropped), desc="ingest", unit=" records", mininterval=1.0):
        if any(str(found.fields.get(key)) in values for key, values in params.drop.items()):
            dropped.leave_out("excluded")
            continue
        if found.id in seen:
            shown = found.id.replace("\0", ": ")
            dropped.fault("duplicate_id", f"{params.path}: {shown} is there twice; remove one")
            continue
        seen.add(found.id)
        caption = _caption(found, dropped)
        if caption is None:
            continue
        picture = _picture(found, intake, params, dropped)
        if picture is not None:
            intake.captions.append((found.picture, caption, picture, found.fields))
    return intake


def _caption(found: Found, dropped: Dropped) -> str | None:
    try:
        caption = " ".join(found.caption.decode("utf-8-sig").split())
    except UnicodeDecodeError as error:
        message = f"{found.picture}: its caption is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        dropped.fault("caption_not_utf8", message)
        return None
    if not caption:
        dropped.fault("empty_caption", f"{found.picture}: its caption is empty; write one")
        return None
    return caption


def _picture(found: Found, intake: _Intake, params: DataParams, dropped: Dropped) -> int | None:
    if found.picture in intake.pictures:
        return intake.pictures[found.picture]
    name = f"{params.images or params.path}: {found.picture}"
    try:
        fitted = load_fitted(found.read(), name, size=params.image_size, background=params.background)
    except (OSError, DataError) as error:
        dropped.fault(*_reason(error, name))
        return None
    intake.spool.add(encode_png(fitted))
    intake.prints.append(fingerprint(fitted))
    return intake.pictures.setdefault(found.picture, len(intake.prints) - 1)


def _reason(error: OSError | DataError, name: str) -> tuple[str, str]:
    if isinstance(error, FileNotFoundError):
        return "missing_image", f"{error.filename}: no such image; add it or remove its caption"
    if isinstance(error, OSError):
        return "unreadable_image", f"{name}: cannot be read ({error.strerror}); check its permissions"
    return "image_too_large" if isinstance(error, BombError) else "damaged_image", str(error)


def _without_duplicates(intake: _Intake, distance: int, dropped: Dropped) -> tuple[list[int], list[int]]:
    """Positions of the captions that stay, and for each picture the first that equals it.

    With ``distance`` -1 all stay, but equal pictures still go to one split.
    """
    same = group_same(intake.prints, max(distance, 0))
    kept = []
    for i, (_, _, picture, _) in enumerate(intake.captions):
        if distance >= 0 and same[picture] != picture:
            dropped.leave_out("duplicate_image")
        else:
            kept.append(i)
    return kept, same


def _write(
    folder: Path, shard_size: int, intake: _Intake, kept: list[int], items: list[Item], assignment: Assignment
) -> dict[str, Split]:
    splits = {}
    progress = tqdm(total=len(kept), desc="write shards", unit=" records", mininterval=1.0)
    for split in SPLITS:
        with ShardWriter(folder, split, shard_size) as writer:
            for place, i in enumerate(kept):
                if assignment.splits[place] != split:
                    continue
                source, caption, picture, fields = intake.captions[i]
                cell = items[place].cell
                meta = {
                    "source": source,
                    "group": assignment.groups[place],
                    "cell": None if cell is None else "|".join(cell),
                    "fields": fields,
                }
                writer.add(Record(f"{i:07d}", caption, intake.spool.get(picture), meta))
                progress.update()
        splits[split] = Split.of(writer.shards)
    progress.close()
    return splits
