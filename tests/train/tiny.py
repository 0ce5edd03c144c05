"""A small embedding store, written by the real writer, and settings for trainings of a second or less."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eclipse.config.params import (
    DataParams,
    EvaluateParams,
    FrozenParams,
    Params,
    PriorParams,
    SelectParams,
    StoreParams,
    SweepParams,
    TrackingParams,
    TrainParams,
)
from eclipse.data.records import Record
from eclipse.embeddings.batch import Batch
from eclipse.embeddings.extract import Embedded
from eclipse.embeddings.loader import BatchOrder
from eclipse.embeddings.quantise import Statics
from eclipse.embeddings.writer import StoreWriter, shard_name
from eclipse.models.prior import EclipsePrior
from eclipse.train.distributed import World
from eclipse.train.loop import Plan, Trainer
from eclipse.train.objective import EclipseObjective, Terms
from eclipse.train.state import TrainingState

ALONE = World(0, 1, torch.device("cpu"))
WIDTH = 16
RECORDS = 40


def settings(**changes: Any) -> TrainParams:
    return TrainParams(**{"steps": 6, "batch_size": 8, "lr": 1e-2, "probe_every": 1, "checkpoint_every": 2, **changes})


def params(**changes: Any) -> Params:
    return Params(
        data=DataParams(),
        frozen=FrozenParams(),
        store=StoreParams(),
        prior=PriorParams(layers=1, heads=2, head_dim=8),
        train=settings(**changes),
        sweep=SweepParams(),
        evaluate=EvaluateParams(),
        select=SelectParams(),
        tracking=TrackingParams(),
    )


def embedded(count: int = RECORDS, width: int = WIDTH, seed: int = 0) -> Embedded:
    """Captions of 3–9 tokens whose image embedding is a linear function of the text, so that a prior can learn it."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 9, count)
    states = torch.from_numpy(rng.normal(size=(int(lengths.sum()), width))).float()
    texts = torch.from_numpy(rng.normal(size=(count, width))).float()
    images = texts @ torch.from_numpy(rng.normal(size=(width, width)) / width**0.5).float() + 0.5
    return Embedded(states=states, lengths=lengths, prompt_embeds=texts, image_embeds=images)


def write_store(folder: Path, what: Embedded | None = None) -> Path:
    what = what or embedded()
    count, width = what.image_embeds.shape
    writer = StoreWriter(folder, {"test": True})
    statics = Statics(what.states.mean(0), what.states.std(0), torch.zeros(width).half())
    writer.write_statics(statics)
    records = [Record(f"r{i}", f"caption {i}", b"", {}) for i in range(count)]
    store = StoreParams(tokens="fp16", image_dtype="fp32")
    writer.write_shard(shard_name("train", 0), records, what, statics, store)
    facts = {
        "encoder": "tiny",
        "weights_hash": "w" * 64,
        "tokenizer_hash": "t" * 64,
        "state_dim": width,
        "projection_dim": width,
        "context_length": 77,
        "logit_scale": 100.0,
        "dataset_digest": "d" * 64,
    }
    writer.publish(facts, store, {"train": 1})
    return folder


@dataclass
class Memory:
    """A source of batches in memory, of any dtype."""

    batches: Embedded
    dtype: torch.dtype = torch.float32

    def gather(self, index: np.ndarray, *, device: torch.device | str = "cpu") -> Batch:
        ends = np.cumsum(self.batches.lengths)
        states = [self.batches.states[ends[i] - self.batches.lengths[i] : ends[i]] for i in index]
        rows = torch.from_numpy(np.asarray(index))
        return Batch(
            torch.cat(states).to(self.dtype),
            torch.from_numpy(self.batches.lengths[index]),
            self.batches.prompt_embeds[rows].to(self.dtype),
            self.batches.image_embeds[rows].to(self.dtype),
        )


def tiny_prior(seed: int = 0, width: int = WIDTH) -> EclipsePrior:
    torch.manual_seed(seed)
    return EclipsePrior(width, None, num_layers=1, num_attention_heads=2, attention_head_dim=8)


def objective(lam: float = 0.2, reduction: str = "mean") -> EclipseObjective:
    return EclipseObjective(Terms(0.1, reduction, 64), lam)  # type: ignore[arg-type]


def fit(plan: Plan, world: World = ALONE, dtype: torch.dtype = torch.float32) -> TrainingState:
    """Train a fresh tiny prior on records in memory."""
    order = BatchOrder(RECORDS, plan.settings.batch_size, plan.seed)
    return Trainer(tiny_prior().to(dtype), Memory(embedded(), dtype), order, plan, world).run()
