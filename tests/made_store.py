"""Embedding stores made up without a CLIP, with what went into them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from eclipse.config.params import StoreParams
from eclipse.data.records import Record
from eclipse.embeddings.extract import Embedded
from eclipse.embeddings.quantise import Statics
from eclipse.embeddings.subjects import EmbeddedSubjects
from eclipse.embeddings.writer import StoreWriter, shard_name

HASH = "a" * 64
INT8 = StoreParams(tokens="int8")


def made_embedded(
    count: int, seed: int, *, state_dim: int = 24, dim: int = 12, longest: int = 9, subjects: bool = False
) -> Embedded:
    """``count`` random records whose captions have 1 (with ``subjects`` 3) to ``longest`` tokens after BOS."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3 if subjects else 1, longest + 1, count)

    def normal(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal(shape, np.float32))

    states, texts, images = normal(int(lengths.sum()), state_dim) + 1, normal(count, dim), normal(count, dim)
    if not subjects:
        return Embedded(states, lengths, texts, images)
    counts = np.minimum(rng.integers(1, 4, count), lengths - 1)
    starts = np.concatenate([np.arange(1, n + 1) for n in counts])
    spans = np.stack([starts, np.ones_like(starts)], 1)
    widest = np.cumsum(counts) - 1
    spans[widest, 1] = lengths - counts  # the last subject of a record takes all the tokens before EOS
    return Embedded(
        states, lengths, texts, images, EmbeddedSubjects(normal(len(spans), dim), counts, spans, normal(count, dim))
    )


def made_store(
    folder: Path,
    shards: dict[str, list[int]],
    *,
    params: StoreParams = INT8,
    state_dim: int = 24,
    dim: int = 12,
    longest: int = 9,
    subjects: bool = False,
) -> dict[str, list[Embedded]]:
    """Write a store whose splits have shards of the given counts; returns what each shard was made from."""
    generator = torch.Generator().manual_seed(99)
    bos = torch.randn(state_dim, generator=generator).half()
    statics = Statics(torch.ones(state_dim), torch.ones(state_dim), bos)
    writer = StoreWriter(folder, {})
    writer.write_statics(statics, nothing=torch.arange(dim).float() if subjects else None)
    made: dict[str, list[Embedded]] = {}
    for s, (split, counts) in enumerate(shards.items()):
        made[split] = []
        for i, count in enumerate(counts):
            embedded = made_embedded(
                count, 1000 * s + i, state_dim=state_dim, dim=dim, longest=longest, subjects=subjects
            )
            records = [Record(f"{split}-{i}-{k:04d}", f"caption {i} {k}", b"", {"n": k}) for k in range(count)]
            writer.write_shard(shard_name(split, i), records, embedded, statics, params)
            made[split].append(embedded)
    facts = {"encoder": "made", "weights_hash": HASH, "tokenizer_hash": HASH, "dataset_digest": HASH}
    sizes = {"state_dim": state_dim, "projection_dim": dim, "context_length": 77, "logit_scale": 100.0}
    writer.publish(facts | sizes, params, {split: len(counts) for split, counts in shards.items()})
    return made
