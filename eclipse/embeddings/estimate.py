"""What embedding a dataset will take, from a few samples of it: time, bytes, and which step is waited for."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from eclipse.config.params import StoreParams
from eclipse.data.manifest import Manifest, verify_shard
from eclipse.data.records import Record, Shard
from eclipse.data.shards import read_shard
from eclipse.embeddings.extract import check_encoded, encode_shard, estimate_statics
from eclipse.embeddings.pictures import Order, prepare
from eclipse.embeddings.quantise import Statics
from eclipse.embeddings.reading import Reader, ReadShard, orders, read_tokens
from eclipse.embeddings.subjects import check_alike, plan_subjects
from eclipse.embeddings.writer import StoreWriter, shard_name
from eclipse.models.clip_flops import image_flops, text_flops

T = TypeVar("T")
STEPS = ("read", "prepare", "encode", "write")
"""What a record goes through: verified, parsed and tokenised; decoded and fitted; encoded; quantised and written."""


@dataclass(frozen=True)
class Sample:
    """One measured sample: ``count`` records, ``tokens`` (without BOS) and ``bytes`` they take in the store.

    ``seconds`` of each of :data:`STEPS`, the pictures prepared by one process; ``flops`` of the towers.
    """

    count: int
    tokens: int
    bytes: int
    flops: float
    seconds: dict[str, float]


@dataclass(frozen=True)
class Span:
    """A figure: its ``median`` over the samples, and the ``low`` and ``high`` that they give."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Span:
        """The span of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def times(self, factor: float) -> Span:
        """Every figure multiplied by ``factor`` ≥ 0."""
        return Span(self.median * factor, self.low * factor, self.high * factor)


def measure(
    reader: Reader, params: StoreParams, dataset: Path, manifest: Manifest, *, records: int, samples: int
) -> list[Sample]:
    """Embed the first ``records`` records of ``samples`` shards, spread over the dataset, and time every step.

    The first is embedded once before, unmeasured: kernels are chosen, compiled and loaded there.
    """
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    picked = [shards[i * len(shards) // samples] for i in range(samples)]
    with tempfile.TemporaryDirectory() as folder:
        statics = estimate_statics(reader, dataset, manifest)
        writer = StoreWriter(Path(folder) / "store", {})
        writer.write_statics(statics)
        _once(reader, params, dataset, picked[0], records, writer, statics, 0)
        return [
            _once(reader, params, dataset, shard, records, writer, statics, i + 1) for i, shard in enumerate(picked)
        ]


def per_record(samples: Sequence[Sample], workers: int) -> dict[str, Span]:
    """Seconds of each step for one record and one encoder, whose pictures ``workers`` processes prepare (0: itself)."""
    spans = {step: Span.of([s.seconds[step] / s.count for s in samples]) for step in STEPS}
    return {**spans, "prepare": spans["prepare"].times(1 / max(workers, 1))}


def pace(steps: dict[str, Span], workers: int) -> tuple[Span, str]:
    """Seconds for one record, and the step that they are owed to.

    With workers the steps overlap and the slowest one counts; without, one follows the other.
    """
    slowest = max(STEPS, key=lambda step: steps[step].median)
    if workers:
        ends = [max(getattr(steps[step], end) for step in STEPS) for end in ("median", "low", "high")]
    else:
        ends = [sum(getattr(steps[step], end) for step in STEPS) for end in ("median", "low", "high")]
    return Span(*ends), slowest


def stored_bytes(samples: Sequence[Sample], tokens: str, state_dim: int) -> dict[str, Span]:
    """Bytes of one record in a store of either type of tokens; the samples were written with ``tokens``."""
    width = {"int8": state_dim + 2, "fp16": 2 * state_dim}
    return {
        kind: Span.of([(s.bytes + s.tokens * (size - width[tokens])) / s.count for s in samples])
        for kind, size in width.items()
    }


def _once(
    reader: Reader,
    params: StoreParams,
    dataset: Path,
    shard: Shard,
    records: int,
    writer: StoreWriter,
    statics: Statics,
    number: int,
) -> Sample:
    seconds: dict[str, float] = {}
    (where, content), whole = _timed(lambda: _read(dataset, shard))
    (read, todo), own = _timed(lambda: _planned(reader, where, content[:records]))
    seconds["read"] = whole * len(read.records) / shard.count + own  # the whole file was read for them
    prepared, seconds["prepare"] = _timed(lambda: [prepare(order) for order in todo])
    encoded, seconds["encode"] = _timed(
        lambda: encode_shard(reader.clip, read, iter(prepared), batch_size=reader.batch_size)
    )
    name = shard_name("sample", number)

    def write() -> int:
        embedded = check_encoded(reader.clip, read, encoded, statics)
        writer.write_shard(name, read.records, embedded, statics, params, read.changed)
        return len(embedded.states)

    tokens, seconds["write"] = _timed(write)
    entry = writer.notes(name)["entry"]
    pictures = sum(len(p.pictures) * (1 if p.edges is None else 2) for p in prepared)
    size = entry["bytes"] + entry["table"]["bytes"]
    return Sample(len(read.records), tokens, size, _flops(reader, read, pictures), seconds)


def _read(dataset: Path, shard: Shard) -> tuple[str, list[Record]]:
    """A shard, read as a whole: so its hash is checked, as in a real run."""
    path = verify_shard(dataset, shard)
    return str(path), list(read_shard(path))


def _planned(reader: Reader, where: str, taken: Sequence[Record]) -> tuple[ReadShard, list[Order]]:
    """``taken`` of a shard as the encoder wants them; unlike the file, only they are looked at."""
    check_alike(taken, reader.annotated, where)
    tokens, changed = read_tokens(reader, taken, where)
    subjects = plan_subjects(reader.clip, taken, where) if reader.annotated else None
    todo = list(orders(reader, taken, subjects, where))
    return ReadShard(where, where, taken, tokens, changed, subjects, len(todo)), todo


def _flops(reader: Reader, read: ReadShard, pictures: int) -> float:
    """Of the captions' real tokens and all pictures; what is computed on padding earns nothing."""
    lengths = (read.tokens.argmax(1) + 1).tolist()
    config: dict[str, Any] = reader.clip.model_cfg
    return float(sum(text_flops(config, length) for length in lengths) + pictures * image_flops(config))


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, time.perf_counter() - started
