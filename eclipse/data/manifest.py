"""What a dataset holds: its splits, their shards with SHA-256, what is held out and what was dropped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from eclipse.config.data import DataParams, WebParams
from eclipse.data.records import Described, Record, Shard
from eclipse.data.shards import read_shard
from eclipse.errors import DataError
from eclipse.files import read_json, sha256, write_json

VERSION = 1
NAME = "manifest.json"


class Split(Described):
    """A split's number of records and its shards in order."""

    count: int
    shards: tuple[Shard, ...]

    @classmethod
    def of(cls, shards: list[Shard]) -> Split:
        """The split that ``shards`` make up."""
        return cls(count=sum(shard.count for shard in shards), shards=tuple(shards))


class Manifest(Described):
    """The contents of ``manifest.json``. A split that has no records is listed with count 0."""

    version: int = VERSION
    source: str
    seed: int
    params_digest: str
    splits: dict[str, Split]
    held_out: tuple[str, ...] = ()
    dropped: dict[str, int] = Field(default_factory=dict)
    takedown: str | None = None
    """Digest of the takedown list that was honoured; not written where there was none."""

    def described(self) -> dict[str, Any]:
        """What is written: plain values."""
        unset = {"takedown"} if self.takedown is None else None
        return self.model_dump(mode="json", exclude=unset)

    @property
    def digest(self) -> str:
        """SHA-256 over the whole content; two datasets with the same digest have the same bytes."""
        text = json.dumps(self.described(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def save(self, dataset: Path) -> None:
        """Write ``<dataset>/manifest.json``."""
        write_json(dataset / NAME, self.described())

    def split(self, name: str) -> Split:
        """The split called ``name``; an unknown one is a :class:`DataError` that lists those there are."""
        try:
            return self.splits[name]
        except KeyError:
            raise DataError(f"split {name!r} is not in the dataset; it has {', '.join(self.splits)}") from None


def params_digest(params: DataParams) -> str:
    """SHA-256 of the parameters that shape a dataset; where the input lies and who works on it does not count."""
    unread = params.source != "img2dataset" or params.web == WebParams()
    web: Any = True if unread else {"takedown", "benchmarks", "workers"}
    text = params.model_dump_json(exclude={"path": True, "images": True, "cells": True, "web": web})
    return hashlib.sha256(text.encode()).hexdigest()


def load_manifest(dataset: Path) -> Manifest:
    """Read ``<dataset>/manifest.json``."""
    path = dataset / NAME
    try:
        manifest = Manifest.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path}: {where}: {first['msg']}; run the dataset stage again") from None
    if manifest.version != VERSION:
        raise DataError(
            f"{path}: version {manifest.version}, this program reads {VERSION}; run the dataset stage again"
        )
    return manifest


def verify_shard(dataset: Path, shard: Shard) -> Path:
    """The shard's path, once its SHA-256 is what the manifest says; otherwise a :class:`DataError` that names it."""
    path = dataset / shard.file
    if not path.is_file():
        raise DataError(f"{path}: shard is missing; run the dataset stage again (dvc repro)")
    found = sha256(path)
    if found != shard.sha256:
        raise DataError(
            f"{path}: SHA-256 is {found[:12]}…, the manifest says {shard.sha256[:12]}…; run the dataset stage again"
        )
    return path


def open_split(dataset: Path, split: str) -> Iterator[Record]:
    """Yield the records of ``split`` in order, each shard after its hash was verified."""
    for shard in load_manifest(dataset).split(split).shards:
        yield from read_shard(verify_shard(dataset, shard))
