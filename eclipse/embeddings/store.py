"""Reads an embedding store: memory-mapped shards, rows picked by index, dequantised where the model is.

A read copies each caption's int8 rows out of the page cache, in one piece; nothing is loaded as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from eclipse.embeddings.batch import Batch, starts_of
from eclipse.embeddings.header import STATIC, Header, ShardEntry, read_header, store_hash
from eclipse.embeddings.quantise import Statics, dequantise
from eclipse.errors import StoreError

__all__ = ["RawBatch", "Store", "store_hash"]


@dataclass(frozen=True)
class RawBatch:
    """Rows as stored.

    ``tokens`` int8 or float16 [ΣL, D] with an idle row in each BOS place, ``scale`` float16 [ΣL] (None with float16
    tokens), ``lengths`` int64 [B] with BOS counted, ``prompt_embeds`` and ``image_embeds`` float16 or float32 [B, P].
    """

    tokens: Tensor
    scale: Tensor | None
    lengths: Tensor
    prompt_embeds: Tensor
    image_embeds: Tensor

    def to(self, device: torch.device | str) -> RawBatch:
        """The same rows on ``device``: a quarter of the bytes that the dequantised batch would be."""
        scale = None if self.scale is None else self.scale.to(device, non_blocking=True)
        moved = (x.to(device, non_blocking=True) for x in (self.lengths, self.prompt_embeds, self.image_embeds))
        return RawBatch(self.tokens.to(device, non_blocking=True), scale, *moved)


@dataclass(frozen=True)
class _Rows:
    """Numpy views of a shard's (or batch's) tensors: slicing them costs a fraction of slicing tensors."""

    tokens: NDArray[Any]
    scale: NDArray[Any] | None
    prompt_embeds: NDArray[Any]
    image_embeds: NDArray[Any]

    @classmethod
    def of(cls, tensors: dict[str, Tensor]) -> _Rows:
        scale = tensors["scale"].numpy() if "scale" in tensors else None
        return cls(tensors["tokens"].numpy(), scale, tensors["prompt_embeds"].numpy(), tensors["image_embeds"].numpy())


class Store:
    """One split of a store. Make it with :meth:`open`; indices count records over all shards in order."""

    def __init__(self, folder: Path, split: str, header: Header) -> None:
        self.folder, self.split, self.header = folder, split, header
        self._entries = header.splits[split].shards
        self._statics = _read_statics(folder, header)
        self._shards = [_map(folder, entry, header) for entry in self._entries]
        self._rows = [_Rows.of(shard) for shard in self._shards]
        counts = np.array([entry.count for entry in self._entries], np.int64)
        self._shard_of = np.repeat(np.arange(len(counts)), counts)
        self._first = starts_of(counts)
        offsets = [shard["offsets"].numpy() for shard in self._shards]
        self._starts = np.concatenate([o[:-1] for o in offsets])
        self._lengths = np.concatenate([np.diff(o) for o in offsets])

    @classmethod
    def open(cls, folder: Path, split: str, *, expect_weights_hash: str | None = None) -> Store:
        """Map ``split`` of the store at ``folder``, checking sizes and shapes but not contents (see :meth:`verify`).

        Raises :class:`StoreError` for a missing, truncated or inconsistent file, an unknown split, or a store that
        another encoder wrote (its ``weights_hash`` is not ``expect_weights_hash``).
        """
        header = read_header(folder)
        if expect_weights_hash is not None and header.weights_hash != expect_weights_hash:
            raise StoreError(
                f"{folder}: written by another encoder ({header.encoder}, weights {header.weights_hash[:12]}, expected "
                f"{expect_weights_hash[:12]}); run the embed stage with this one"
            )
        if split not in header.splits:
            raise StoreError(f"{folder}: has no split {split!r}; it holds {', '.join(sorted(header.splits))}")
        if not header.splits[split].shards:
            raise StoreError(f"{folder}: split {split!r} holds no records; check the dataset's split")
        return cls(folder, split, header)

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each caption, BOS and EOS counted: int64 [N]."""
        return self._lengths + 1

    def gather(self, index: NDArray[np.int64], *, device: torch.device | str = "cpu") -> Batch:
        """The records at ``index`` int64 [B] (any order, repeats allowed), dequantised on ``device``."""
        return self.dequantise(self.read(index).to(device))

    def read(self, index: NDArray[np.int64]) -> RawBatch:
        """The records at ``index`` as stored. Cheap; send the result to the device, then :meth:`dequantise`."""
        index = np.asarray(index, np.int64)
        if index.ndim != 1 or (len(index) and not 0 <= index.min() <= index.max() < len(self)):
            raise StoreError(f"{self.folder}: index out of range; {self.split} holds {len(self)} records")
        numbers, lengths = self._shard_of[index], self._lengths[index]
        ends = np.cumsum(lengths + 1)
        raw = self._empty(len(index), int(ends[-1]) if len(index) else 0)
        into = _Rows.of(raw)
        places = np.stack([numbers, index - self._first[numbers], self._starts[index], lengths, ends], 1)
        # A caption's rows lie together, so plain slices copy faster than any gather of rows, and from any shard.
        for i, (number, local, start, length, end) in enumerate(places.tolist()):
            shard = self._rows[number]
            into.tokens[end - length : end] = shard.tokens[start : start + length]
            into.prompt_embeds[i] = shard.prompt_embeds[local]
            into.image_embeds[i] = shard.image_embeds[local]
            if into.scale is not None and shard.scale is not None:
                into.scale[end - length : end] = shard.scale[start : start + length]
        pooled = raw["prompt_embeds"], raw["image_embeds"]
        return RawBatch(raw["tokens"], raw.get("scale"), torch.from_numpy(lengths + 1), *pooled)

    def _empty(self, count: int, tokens: int) -> dict[str, Tensor]:
        """Room for a batch, in the types of the shards."""
        sizes = {"tokens": tokens, "scale": tokens, "prompt_embeds": count, "image_embeds": count}
        like = {name: tensor for name, tensor in self._shards[0].items() if name in sizes}
        return {name: tensor.new_empty((sizes[name], *tensor.shape[1:])) for name, tensor in like.items()}

    def dequantise(self, raw: RawBatch) -> Batch:
        """``raw`` of :meth:`read` as float32 with BOS in its place, on the device that ``raw`` is on."""
        statics = self._statics_on(raw.tokens.device)
        states = raw.tokens.float() if raw.scale is None else dequantise(raw.tokens, raw.scale, statics)
        states[raw.lengths.cumsum(0) - raw.lengths] = statics.bos.float()
        return Batch(states, raw.lengths, raw.prompt_embeds.float(), raw.image_embeds.float())

    def table(self) -> pa.Table:
        """Columns id, caption and meta (a JSON object) as strings, one row per record in the order of the index."""
        return pa.concat_tables([pq.read_table(self.folder / entry.table.file) for entry in self._entries])

    def verify(self) -> None:
        """Compare the SHA-256 of every file of the split; raises :class:`StoreError` naming the first wrong one."""
        self.header.static.check_hash(self.folder)
        for entry in self._entries:
            entry.check_hash(self.folder)
            entry.table.check_hash(self.folder)

    def _statics_on(self, device: torch.device) -> Statics:
        if self._statics.mean.device != device:
            self._statics = self._statics.to(device)
        return self._statics


def _read_statics(folder: Path, header: Header) -> Statics:
    header.static.check_size(folder)
    tensors = _tensors(folder / STATIC)
    for name in ("mean", "std", "bos"):
        _check_shape(folder / STATIC, tensors, name, (header.state_dim,))
    return Statics(tensors["mean"], tensors["std"], tensors["bos"])


def _map(folder: Path, entry: ShardEntry, header: Header) -> dict[str, Tensor]:
    entry.check_size(folder)
    entry.table.check_size(folder)
    path = folder / entry.file
    tensors = _tensors(path)
    _check_shape(path, tensors, "tokens", (entry.tokens, header.state_dim))
    _check_shape(path, tensors, "offsets", (entry.count + 1,))
    _check_shape(path, tensors, "image_embeds", (entry.count, header.projection_dim))
    _check_shape(path, tensors, "prompt_embeds", (entry.count, header.projection_dim))
    if header.tokens == "int8":
        _check_shape(path, tensors, "scale", (entry.tokens,))
    offsets = tensors["offsets"]
    if offsets[0] != 0 or offsets[-1] != entry.tokens or (offsets.diff() < 1).any():
        raise StoreError(f"{path}: offsets do not cover the tokens; it is damaged, run the embed stage again")
    return tensors


def _tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file as views of its memory map."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not iterable)
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{path}: not a whole safetensors file ({error}); run the embed stage again") from None


def _check_shape(path: Path, tensors: dict[str, Tensor], name: str, shape: tuple[int, ...]) -> None:
    found = tuple(tensors[name].shape) if name in tensors else None
    if found != shape:
        raise StoreError(f"{path}: {name} has shape {found}, the header says {shape}; run the embed stage again")
