"""Writes an embedding store shard by shard beside its destination, so that a killed run loses one shard at most."""

from __future__ import annotations

import json
import logging
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor

from eclipse.config.params import StoreParams
from eclipse.data.records import Record
from eclipse.embeddings.extract import Embedded
from eclipse.embeddings.header import HEADER, STATIC, VERSION, FileEntry, Header, ShardEntry, SplitEntry
from eclipse.embeddings.quantise import QuantiseError, Statics, dequantise, gate, measure, quantise
from eclipse.embeddings.static_file import StaticFile
from eclipse.embeddings.subjects import EmbeddedSubjects
from eclipse.errors import DataError, StoreError
from eclipse.files import atomic_file, read_json, write_json

PROGRESS = "progress.json"
log = logging.getLogger(__name__)


class StoreWriter:
    """``<out>.partial`` with its finished shards.

    ``identity`` is all that shapes the bytes: what a run of another identity left is thrown away, with a warning.
    """

    def __init__(self, out: Path, identity: dict[str, Any]) -> None:
        self.out = out
        self.partial = partial_of(out)
        self._progress: dict[str, Any] = {"identity": identity, "shards": {}}
        self._adopt()

    def _adopt(self) -> None:
        """Keep what an interrupted run left, if it is of the same identity and whole."""
        if not self.partial.exists():
            return
        try:
            left = read_json(self.partial / PROGRESS)
        except DataError:
            left = {}
        if isinstance(left, dict) and left.get("identity") == self._progress["identity"]:
            self._progress = left
            return
        log.warning("%s: left by another encoder, dataset or configuration; starting afresh", self.partial)
        shutil.rmtree(self.partial)

    def statics(self, expect: str | None = None) -> Statics | None:
        """The statistics that an interrupted run wrote, or None; ``expect`` is their file's SHA-256, where known."""
        entry = self._progress.get("static")
        if entry is None or expect not in (None, entry["sha256"]) or not _whole(self.partial, FileEntry(**entry)):
            self._progress["shards"] = {}  # shards written under other statistics would not be readable
            return None
        return StaticFile.load(self.partial / STATIC).statics

    def write_statics(self, statics: Statics, *, nothing: Tensor | None = None) -> None:
        """Write what all shards share; comes before the first shard. Annotated data needs ``nothing`` float32 [P]."""
        StaticFile(statics, nothing).save(self.partial / STATIC)
        self._progress["static"] = FileEntry.of(self.partial, STATIC).model_dump()
        self._save()

    def finished(self, name: str) -> bool:
        """Whether shard ``name`` (``train/shard-00000``) is there, with the bytes that were written."""
        done = self._progress["shards"].get(name)
        try:
            return done is not None and all(_whole(self.partial, e) for e in _files(ShardEntry(**done["entry"])))
        except ValidationError:
            return False

    def write_shard(
        self,
        name: str,
        records: Sequence[Record],
        embedded: Embedded,
        statics: Statics,
        params: StoreParams,
        changed: int | None = None,
    ) -> None:
        """Quantise, gate and write one shard and its table, then note it as finished.

        ``changed`` is the number of captions that were cut, None where none may be.
        """
        tensors, error = pack(embedded, statics, params, where=f"{self.out}/{name}")
        with atomic_file(self.partial / f"{name}.safetensors") as beside:
            save_file(tensors, beside)
        with atomic_file(self.partial / f"{name}.parquet") as beside:
            pq.write_table(_table(records), beside)
        entry = ShardEntry(
            **FileEntry.of(self.partial, f"{name}.safetensors").model_dump(),
            count=len(records),
            tokens=len(embedded.states),
            table=FileEntry.of(self.partial, f"{name}.parquet"),
        )
        cosine = torch.nn.functional.cosine_similarity(embedded.image_embeds, embedded.prompt_embeds)
        self._progress["shards"][name] = {
            "entry": entry.model_dump(),
            "token_error": error.token,
            "spread_error": error.spread,
            "cosine": cosine.mean().item(),
        }
        if embedded.subjects is not None:
            numbers, records_of = np.unique(embedded.subjects.counts, return_counts=True)
            found = {str(number): int(count) for number, count in zip(numbers, records_of, strict=True)}
            self._progress["shards"][name]["subjects"] = found
        if changed is not None:
            self._progress["shards"][name]["changed_captions"] = changed
        self._save()

    def notes(self, name: str) -> dict[str, Any]:
        """What was noted of a finished shard: entry, token_error, spread_error, cosine (mean of z_x to its z_y).

        Of annotated data also ``subjects``: number of subjects → records that have so many; of the web's
        ``changed_captions``.
        """
        return dict(self._progress["shards"][name])

    def publish_part(self) -> None:
        """Move what is finished to its destination as a part of a store: without header, with its notes."""
        self._save()
        self._move()

    def publish(self, facts: dict[str, Any], params: StoreParams, shards: dict[str, int]) -> Header:
        """Add the header and move the whole to its destination; what stood there before is replaced.

        ``facts`` are the header's fields about encoder and dataset, ``shards`` the number of shards of each split.
        """
        header = self._header(facts, params, shards)
        # Without defaults: a store without subjects has the header, and so the identity, that it always had.
        write_json(self.partial / HEADER, header.model_dump(mode="json", exclude_defaults=True))
        self._move()
        (self.out / PROGRESS).unlink()
        return header

    def _move(self) -> None:
        old = self.out.with_name(f".{self.out.name}.{uuid.uuid4().hex[:8]}.old")
        if self.out.exists():
            self.out.replace(old)
        self.partial.replace(self.out)
        shutil.rmtree(old, ignore_errors=True)

    def _header(self, facts: dict[str, Any], params: StoreParams, shards: dict[str, int]) -> Header:
        notes = {split: [self.notes(shard_name(split, i)) for i in range(count)] for split, count in shards.items()}
        every = [note for split in notes.values() for note in split]
        splits = {}
        for split, content in notes.items():
            entries = tuple(ShardEntry(**note["entry"]) for note in content)
            splits[split] = SplitEntry(count=sum(entry.count for entry in entries), shards=entries)
        return Header(
            version=VERSION,
            tokens=params.tokens,
            image_dtype=params.image_dtype,
            static=FileEntry(**self._progress["static"]),
            splits=splits,
            max_error=max((note["token_error"] for note in every), default=0.0),
            spread_error=max((note["spread_error"] for note in every), default=0.0),
            subjects=any("subjects" in note for note in every),
            precision=params.precision,
            **facts,
        )

    def _save(self) -> None:
        write_json(self.partial / PROGRESS, self._progress)


def partial_of(out: Path) -> Path:
    """Where the finished shards of the store ``out`` wait for the others."""
    return out.with_name(out.name + ".partial")


def shard_name(split: str, number: int) -> str:
    """A shard's files below the store, without ending."""
    return f"{split}/shard-{number:05d}"


def pack(
    embedded: Embedded, statics: Statics, params: StoreParams, *, where: str
) -> tuple[dict[str, Tensor], QuantiseError]:
    """The tensors of a shard file and the error they carry; raises :class:`StoreError` where it is too large."""
    lengths = torch.from_numpy(embedded.lengths)
    tensors = {
        "offsets": torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]),
        "image_embeds": _stored(embedded.image_embeds, params.image_dtype, "image_embeds", where),
        "prompt_embeds": _stored(embedded.prompt_embeds, params.image_dtype, "prompt_embeds", where),
    }
    if embedded.subjects is not None:
        tensors |= _pack_subjects(embedded.subjects, params, where)
    if params.tokens == "fp16":
        tensors["tokens"] = _stored(embedded.states, "fp16", "tokens", where)
        return tensors, measure(embedded.states, tensors["tokens"].float(), statics)
    tensors["tokens"], tensors["scale"] = quantise(embedded.states, statics)
    error = measure(embedded.states, dequantise(tensors["tokens"], tensors["scale"], statics), statics)
    gate(error, where)
    return tensors, error


def _pack_subjects(subjects: EmbeddedSubjects, params: StoreParams, where: str) -> dict[str, Tensor]:
    counts = torch.from_numpy(subjects.counts)
    return {
        "subject_offsets": torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
        "subject_spans": torch.from_numpy(subjects.spans),
        "subject_embeds": _stored(subjects.embeds, params.image_dtype, "subject_embeds", where),
        "control_embeds": _stored(subjects.control_embeds, params.image_dtype, "control_embeds", where),
    }


def _stored(values: Tensor, dtype: str, what: str, where: str) -> Tensor:
    stored = values.half() if dtype == "fp16" else values
    if not torch.isfinite(stored).all():
        remedy = "set store.image_dtype=fp32" if what != "tokens" else "set store.tokens=int8"
        raise StoreError(f"{where}: {what} exceed float16; {remedy}")
    return stored.contiguous()


def _table(records: Sequence[Record]) -> pa.Table:
    return pa.table(
        {
            "id": pa.array([record.id for record in records], pa.string()),
            "caption": pa.array([record.caption for record in records], pa.string()),
            "meta": pa.array(
                [json.dumps(record.meta, sort_keys=True, ensure_ascii=False) for record in records], pa.string()
            ),
        }
    )


def _files(entry: ShardEntry) -> tuple[FileEntry, FileEntry]:
    return entry, entry.table


def _whole(folder: Path, entry: FileEntry) -> bool:
    try:
        entry.check_hash(folder)
    except StoreError:
        return False
    return True
