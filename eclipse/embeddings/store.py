"""Reads an embedding store: memory-mapped shards, rows picked by index, dequantised where the model is.

A read copies each caption's int8 rows out of the page cache, in one piece; nothing is loaded as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from eclipse.embeddings.batch import Batch, Subjects, ragged_rows, starts_of
from eclipse.embeddings.header import Header, read_header, store_hash
from eclipse.embeddings.mapped import map_shard, map_statics
from eclipse.embeddings.quantise import Statics, dequantise
from eclipse.embeddings.subject_rows import SubjectRows
from eclipse.errors import StoreError

__all__ = ["RawBatch", "Store", "store_hash"]


@dataclass(frozen=True)
class RawBatch:
    """Rows as stored.

    ``tokens`` int8 or float16 [ΣL, D] with an idle row in each BOS place, ``scale`` float16 [ΣL] (None with float16
    tokens), ``lengths`` int64 [B] with BOS counted, ``prompt_embeds`` and ``image_embeds`` float16 or float32 [B, P].
    ``subjects`` (vectors as stored) and ``control_embeds`` [B, P] where the store has them.
    """

    tokens: Tensor
    scale: Tensor | None
    lengths: Tensor
    prompt_embeds: Tensor
    image_embeds: Tensor
    subjects: Subjects | None = None
    control_embeds: Tensor | None = None

    def to(self, device: torch.device | str) -> RawBatch:
        """The same rows on ``device``: a quarter of the bytes that the dequantised batch would be."""
        return RawBatch(
            self.tokens.to(device, non_blocking=True),
            None if self.scale is None else self.scale.to(device, non_blocking=True),
            self.lengths.to(device, non_blocking=True),
            self.prompt_embeds.to(device, non_blocking=True),
            self.image_embeds.to(device, non_blocking=True),
            None if self.subjects is None else self.subjects.to(device),
            None if self.control_embeds is None else self.control_embeds.to(device, non_blocking=True),
        )


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
        static = map_statics(folder, header)
        self._statics, self._nothing = Statics(static["mean"], static["std"], static["bos"]), static.get("nothing")
        self._shards = [map_shard(folder, entry, header) for entry in self._entries]
        self._rows = [_Rows.of(shard) for shard in self._shards]
        self._subjects = SubjectRows(self._shards) if header.subjects else None
        counts = np.array([entry.count for entry in self._entries], np.int64)
        self._shard_of = np.repeat(np.arange(len(counts)), counts)
        self._first = starts_of(counts)
        offsets = [shard["offsets"].numpy() for shard in self._shards]
        self._starts = np.concatenate([o[:-1] for o in offsets])
        self._lengths = np.concatenate([np.diff(o) for o in offsets])
        # The scales alone are held in memory, two bytes a token: one indexing then spares a tiny copy per caption.
        self._scales = _joined([rows.scale for rows in self._rows])
        tokens = np.array([entry.tokens for entry in self._entries], np.int64)
        self._first_scale = np.repeat(starts_of(tokens), counts) + self._starts

    @classmethod
    def open(
        cls,
        folder: Path,
        split: str,
        *,
        expect_weights_hash: str | None = None,
        expect_tokenizer_hash: str | None = None,
    ) -> Store:
        """Map ``split`` of the store at ``folder``, checking sizes and shapes but not contents (see :meth:`verify`).

        Raises :class:`StoreError` for a missing, truncated or inconsistent file, an unknown split, or a store that
        another encoder wrote (its ``weights_hash`` or ``tokenizer_hash`` is not the one expected).
        """
        header = read_header(folder)
        if expect_weights_hash is not None and header.weights_hash != expect_weights_hash:
            raise StoreError(
                f"{folder}: written by another encoder ({header.encoder}, weights {header.weights_hash[:12]}, expected "
                f"{expect_weights_hash[:12]}); run the embed stage with this one"
            )
        if expect_tokenizer_hash is not None and header.tokenizer_hash != expect_tokenizer_hash:
            raise StoreError(
                f"{folder}: its captions were cut into tokens by another tokenizer ({header.tokenizer_hash[:12]}, "
                f"expected {expect_tokenizer_hash[:12]}); run the embed stage with this one"
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

    @property
    def nothing(self) -> Tensor:
        """ "No picture": the embedding of zero pixels, float32 [P]. A store without subjects has none (StoreError)."""
        if self._nothing is None:
            raise StoreError(f"{self.folder}: holds no subjects; embed a dataset of the annotate stage")
        return self._nothing

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
        local, starts = index - self._first[numbers], self._starts[index]
        places = np.stack([numbers, local, starts, starts + lengths, ends - lengths, ends], 1)
        tokens, prompt_embeds, image_embeds = into.tokens, into.prompt_embeds, into.image_embeds
        # A caption's rows lie together, so plain slices copy faster than any gather of rows, and from any shard.
        for i, (number, row, start, stop, first, end) in enumerate(places.tolist()):
            shard = self._rows[number]
            tokens[first:end] = shard.tokens[start:stop]
            prompt_embeds[i] = shard.prompt_embeds[row]
            image_embeds[i] = shard.image_embeds[row]
        if into.scale is not None and self._scales is not None:
            rows = ragged_rows(self._first_scale[index], lengths)
            into.scale[ragged_rows(ends - lengths, lengths)] = self._scales[rows]
        pooled = raw["prompt_embeds"], raw["image_embeds"]
        batch = RawBatch(raw["tokens"], raw.get("scale"), torch.from_numpy(lengths + 1), *pooled)
        if self._subjects is None:
            return batch
        subjects, control = self._subjects.read(index, numbers, local)
        return replace(batch, subjects=subjects, control_embeds=control)

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
        subjects = None if raw.subjects is None else replace(raw.subjects, embeds=raw.subjects.embeds.float())
        control = None if raw.control_embeds is None else raw.control_embeds.float()
        return Batch(states, raw.lengths, raw.prompt_embeds.float(), raw.image_embeds.float(), subjects, control)

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


def _joined(parts: list[NDArray[Any] | None]) -> NDArray[Any] | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if known else None
