"""A small embedding store, written by the real writer, and settings for trainings of a second or less."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
from eclipse.embeddings.batch import Batch, Subjects
from eclipse.embeddings.extract import Embedded
from eclipse.embeddings.loader import BatchOrder
from eclipse.embeddings.quantise import Statics
from eclipse.embeddings.subjects import EmbeddedSubjects
from eclipse.embeddings.writer import StoreWriter, shard_name
from eclipse.models.prior import EclipsePrior
from eclipse.train.distributed import World
from eclipse.train.loop import Plan, Trainer
from eclipse.train.objective import EclipseObjective, LambdaObjective, Objective, Terms
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


def vectors(*key: int, width: int = WIDTH) -> torch.Tensor:
    """A vector for a key, float64 [width]."""
    return torch.from_numpy(np.random.default_rng(key).normal(size=width))


def subjects_of(record: int, length: int) -> list[tuple[int, int, torch.Tensor]]:
    """First token, tokens and vector of each subject of a record: one to three, the last with all words that are left.

    A caption without words has none.
    """
    words = length - 2
    count = min(1 + record % 3, words)
    return [(1 + i, 1 if i < count - 1 else words - i, vectors(1, record, i)) for i in range(count)]


def annotated(what: Embedded) -> Embedded:
    """The same records with their subjects and edge maps."""
    found = [subjects_of(i, int(length) + 1) for i, length in enumerate(what.lengths)]
    every = [subject for subjects in found for subject in subjects]
    subjects = EmbeddedSubjects(
        embeds=torch.stack([vector for _, _, vector in every]).float(),
        counts=np.array([len(subjects) for subjects in found]),
        spans=np.array([[start, length] for start, length, _ in every]),
        control_embeds=torch.stack([vectors(2, i) for i in range(len(found))]).float(),
    )
    return replace(what, subjects=subjects)


def write_store(folder: Path, what: Embedded | None = None) -> Path:
    what = what or embedded()
    count, width = what.image_embeds.shape
    writer = StoreWriter(folder, {"test": True})
    statics = Statics(what.states.mean(0), what.states.std(0), torch.zeros(width).half())
    writer.write_statics(statics, nothing=None if what.subjects is None else vectors(3).float())
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
    """A source of batches in memory, of any dtype; with ``subjects`` each record has its own and an edge map."""

    batches: Embedded
    dtype: torch.dtype = torch.float32
    subjects: bool = False

    def gather(self, index: np.ndarray, *, device: torch.device | str = "cpu") -> Batch:
        ends = np.cumsum(self.batches.lengths)
        states = [self.batches.states[ends[i] - self.batches.lengths[i] : ends[i]] for i in index]
        rows = torch.from_numpy(np.asarray(index))
        return Batch(
            torch.cat(states).to(self.dtype),
            torch.from_numpy(self.batches.lengths[index]),
            self.batches.prompt_embeds[rows].to(self.dtype),
            self.batches.image_embeds[rows].to(self.dtype),
            self._subjects(index) if self.subjects else None,
            torch.stack([vectors(2, int(i)) for i in index]).to(self.dtype) if self.subjects else None,
        )

    def _subjects(self, index: np.ndarray) -> Subjects:
        found = [(at, *x) for at, i in enumerate(index) for x in subjects_of(int(i), int(self.batches.lengths[i]))]
        owner, start, length = (torch.tensor([x[column] for x in found], dtype=torch.int64) for column in range(3))
        embeds = torch.stack([x[3] for x in found]) if found else torch.zeros(0, WIDTH)
        return Subjects(embeds.to(self.dtype), owner, start, length)


def tiny_prior(seed: int = 0, width: int = WIDTH, control: bool = False) -> EclipsePrior:
    torch.manual_seed(seed)
    extras = 4 if control else 3
    return EclipsePrior(
        width, None, num_layers=1, num_attention_heads=2, attention_head_dim=8, additional_embeddings=extras
    )


def objective(lam: float = 0.2, reduction: str = "mean") -> EclipseObjective:
    return EclipseObjective(Terms(0.1, reduction, 64), lam)  # type: ignore[arg-type]


def lambda_objective(lam: float = 0.2, *, edges: bool = True, drop: float = 0.4) -> LambdaObjective:
    return LambdaObjective(Terms(0.1, "mean", 64), lam, vectors(3), edges, drop)


def trainer(
    plan: Plan, source: Memory | None = None, world: World = ALONE, dtype: torch.dtype = torch.float32
) -> Trainer:
    """A training of a fresh tiny prior, of the kind that the objective needs, on ``source`` or records in memory."""
    control = isinstance(plan.objective, LambdaObjective)
    source = source or Memory(embedded(), dtype, subjects=control)
    order = BatchOrder(RECORDS, plan.settings.batch_size, plan.seed)
    return Trainer(tiny_prior(control=control).to(dtype), source, order, plan, world)


def fit(plan: Plan, world: World = ALONE, dtype: torch.dtype = torch.float32) -> TrainingState:
    """Train to the end, see :func:`trainer`."""
    return trainer(plan, None, world, dtype).run()


def gradients(plan: Plan, world: World = ALONE) -> dict[str, torch.Tensor]:
    """Gradients of the first step in float64, by name."""
    made = trainer(plan, None, world, torch.float64)
    made._backward(made._load(0))
    return {name: p.grad for name, p in made.state.prior.named_parameters() if p.grad is not None}


METHODS: dict[str, Objective] = {"eclipse": objective(1.0), "lambda": lambda_objective(1.0)}
