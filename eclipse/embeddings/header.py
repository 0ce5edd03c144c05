"""header.json of an embedding store: whose embeddings these are, their sizes, and the hash of every file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from eclipse.config.params import StoreParams
from eclipse.errors import DataError, StoreError
from eclipse.files import read_json, sha256

HEADER = "header.json"
STATIC = "static.safetensors"
VERSION = 1


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Strict):
    """One file of the store: path below the store's folder, size in bytes, SHA-256."""

    file: str
    bytes: int
    sha256: str

    @classmethod
    def of(cls, folder: Path, file: str) -> FileEntry:
        """Describe ``folder``/``file`` as it is now."""
        path = folder / file
        return cls(file=file, bytes=path.stat().st_size, sha256=sha256(path))

    def check_size(self, folder: Path) -> None:
        """Cheap check on opening; raises :class:`StoreError` for a missing or truncated file."""
        path = folder / self.file
        if not path.is_file():
            raise StoreError(f"{path}: no such file; run the embed stage again (dvc repro)")
        if path.stat().st_size != self.bytes:
            raise StoreError(
                f"{path}: {path.stat().st_size} bytes instead of {self.bytes}; it is damaged, run the embed stage again"
            )

    def check_hash(self, folder: Path) -> None:
        """Full check; raises :class:`StoreError` for a file whose bytes are not the ones written."""
        self.check_size(folder)
        if sha256(folder / self.file) != self.sha256:
            raise StoreError(f"{folder / self.file}: wrong SHA-256; it is damaged, run the embed stage again")


class ShardEntry(FileEntry):
    """One shard: ``count`` records, ``tokens`` stored tokens (without BOS), and its table of ids and captions."""

    count: int
    tokens: int
    table: FileEntry


class SplitEntry(_Strict):
    """The shards of one split, in order."""

    count: int
    shards: tuple[ShardEntry, ...]


class Header(_Strict):
    """Everything that a reader needs to know; sizes are never parameters elsewhere.

    ``max_error`` is the worst relative error of any token's state, ``spread_error`` the mean error in units of each
    channel's spread (see ``quantise.QuantiseError``); both are 0 only for an empty store. ``subjects``: the
    records are annotated, and shards hold their subjects and edges. ``precision`` is that of the encoder's matrix
    products, written only where it is not fp32.
    """

    version: int
    encoder: str
    weights_hash: str
    tokenizer_hash: str
    state_dim: int
    projection_dim: int
    context_length: int
    logit_scale: float
    tokens: Literal["int8", "fp16"]
    image_dtype: Literal["fp16", "fp32"]
    dataset_digest: str
    static: FileEntry
    splits: dict[str, SplitEntry]
    max_error: float
    spread_error: float
    subjects: bool = False
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"

    def files(self) -> Iterator[FileEntry]:
        """Every file of the store but the header."""
        yield self.static
        for split in self.splits.values():
            for shard in split.shards:
                yield from (shard, shard.table)


def identity_of(params: StoreParams, facts: dict[str, Any]) -> dict[str, Any]:
    """All that shapes the bytes of a store: its settings, and the header's ``facts`` about encoder and dataset."""
    plain = StoreParams()
    unset = {name for name in ("precision", "compile") if getattr(params, name) == getattr(plain, name)}
    settings = params.model_dump(mode="json", exclude={"workers", *unset})
    return {"version": VERSION, "store": settings, **facts}


def read_header(folder: Path) -> Header:
    """Read ``folder``'s header; raises :class:`StoreError` where it is missing, damaged or of another version."""
    path = folder / HEADER
    try:
        raw = read_json(path)
        if isinstance(raw, dict) and raw.get("version") != VERSION:
            version = raw.get("version")
            raise StoreError(f"{path}: version {version!r}, this program reads {VERSION}; run the embed stage again")
        return Header.model_validate(raw)
    except DataError as error:
        raise StoreError(str(error)) from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise StoreError(f"{path}: {field}: {first['msg']}; run the embed stage again") from None


def store_hash(folder: Path) -> str:
    """SHA-256 of header.json, which holds the hash of every other file: the store's identity."""
    read_header(folder)
    return sha256(folder / HEADER)
