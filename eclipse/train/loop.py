"""The training loop of all priors. What a step computes depends on (seed, step) and the weights alone."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from eclipse.config.params import TrainParams
from eclipse.embeddings.batch import Batch
from eclipse.errors import CheckpointError, TrainingError
from eclipse.models.prior import EclipsePrior
from eclipse.train.batches import check_finite, cut, some
from eclipse.train.distributed import World
from eclipse.train.interrupt import EX_TEMPFAIL, stop_on_sigterm
from eclipse.train.objective import Draw, Objective, Targets, draw
from eclipse.train.probes import curve_row, probe
from eclipse.train.schedule import make_optimizer, make_scheduler
from eclipse.train.state import Average, TrainingState

log = logging.getLogger(__name__)
_determinism: Any = torch.utils.deterministic


class Source(Protocol):
    """Where batches come from: an embedding store."""

    def gather(self, index: np.ndarray, *, device: torch.device) -> Batch:
        """The records at ``index`` int64 [B], on ``device``."""


class Order(Protocol):
    """Which records make up the batch of a step."""

    def at(self, step: int) -> np.ndarray:
        """Indices int64 [batch_size] of step ``step`` (from 0), the same whenever asked."""


@dataclass(frozen=True)
class Plan:
    """What to train and how.

    ``digest`` names everything that the result depends on. ``checkpoint`` is the state's file; None keeps no state.
    """

    settings: TrainParams
    objective: Objective
    seed: int
    digest: str = ""
    checkpoint: Path | None = None


@dataclass
class _Batch:
    """One step's share of this rank, on the device, with the random draw and targets that go with it."""

    own: Batch
    draw: Draw
    targets: Targets
    records: np.ndarray


@dataclass(frozen=True)
class _Result:
    """Means over this rank's share: ``losses`` [3] total, mse, contrastive; ``predicted`` [n, P]."""

    losses: Tensor
    predicted: Tensor


class Trainer:
    """Trains ``prior`` in place. Every rank builds one; only rank 0 writes."""

    def __init__(self, prior: nn.Module, source: Source, order: Order, plan: Plan, world: World) -> None:
        settings = plan.settings
        self.source, self.order, self.plan, self.world = source, order, plan, world
        self.rows = world.share(settings.batch_size)
        prior.to(world.device).train()
        optimizer = make_optimizer(prior, settings)
        average = Average(prior, settings.ema) if settings.ema else None
        self.state = TrainingState(prior, optimizer, make_scheduler(optimizer, settings), average)
        self._trained = [p for p in prior.parameters() if p.requires_grad]
        self._resume()
        if settings.compile and isinstance(prior, EclipsePrior):
            prior.compile_blocks()
        module = plan.objective.module(prior)
        self._model = DistributedDataParallel(module, forward_sync_buffers=False) if world.size > 1 else module

    def run(self) -> TrainingState:
        """Train to the last step and return the state, whose prior then holds the moving average if there is one.

        SIGTERM ends it with exit code 75 after a checkpoint. A value that is not finite is a
        :class:`~eclipse.errors.TrainingError` that names the step and the records.
        """
        settings, state = self.plan.settings, self.state
        steps = range(state.step, settings.steps)
        # An explicit disable=False would outvote TQDM_DISABLE, which is how --quiet reaches all bars.
        hidden: dict[str, Any] = {} if self.world.writes else {"disable": True}
        bar = tqdm(steps, initial=state.step, total=settings.steps, desc="train", mininterval=2.0, **hidden)
        with _deterministic(self.world.device), stop_on_sigterm() as stop, bar:
            started = time.perf_counter() - state.seconds
            for step in bar:
                batch, result, lr = self._step(step)
                state.seconds = time.perf_counter() - started
                if step % settings.probe_every == 0 or state.step == settings.steps:
                    self._observe(batch, result, lr, bar)
                stopping = self.world.any(stop.made) and state.step < settings.steps
                if stopping or state.step % settings.checkpoint_every == 0 or state.step == settings.steps:
                    self._save()
                if stopping:
                    log.warning("stopped after step %d; run the same command to go on", state.step)
                    raise SystemExit(EX_TEMPFAIL)
        if state.average is not None:
            state.average.copy_to(state.prior)
        return state

    def _resume(self) -> None:
        path = self.plan.checkpoint
        if path is not None and self.state.restore(path, self.plan.digest):
            log.info("%s: going on after step %d", path, self.state.step)
        if not self.world.agree(self.state.step):
            raise CheckpointError(f"{path}: not the same on all nodes; put the checkpoints on a shared folder")

    def _save(self) -> None:
        if self.plan.checkpoint is not None and self.world.writes:
            self.state.save(self.plan.checkpoint, self.plan.digest)
        self.world.barrier()

    def _step(self, step: int) -> tuple[_Batch, _Result, float]:
        """One optimiser step; returns what it saw, what came out, and the learning rate it used."""
        state, settings = self.state, self.plan.settings
        batch = self._load(step)
        lr = state.optimizer.param_groups[0]["lr"]
        state.optimizer.zero_grad(set_to_none=True)
        result = self._backward(batch)
        norm = nn.utils.clip_grad_norm_(self._trained, settings.clip_norm)
        if not torch.isfinite(result.losses.sum() + norm):
            raise self._not_finite(step, result.losses[0], norm, batch.records)
        state.optimizer.step()
        state.scheduler.step()
        if state.average is not None:
            state.average.update(state.prior, step)
        state.step = step + 1
        return batch, result, lr

    def _load(self, step: int) -> _Batch:
        """Gather this rank's rows of the step's global batch, refuse values that are not finite, and draw noise."""
        records = self.order.at(step)[self.rows]
        device = self.world.device
        own = self.source.gather(records, device=device)
        # Packing reads lengths on the CPU.
        own = replace(own, lengths=own.lengths.cpu())
        check_finite(own, records, step)
        labels = torch.arange(self.rows.start, self.rows.stop, device=device)
        drawn = draw(self.plan.seed, step, self.plan.settings.batch_size, own.image_embeds.shape[1], device)
        return _Batch(own, drawn[self.rows], Targets(self.world.gather(own.prompt_embeds), labels), records)

    def _backward(self, batch: _Batch) -> _Result:
        """Accumulate the gradient of the mean loss over this rank's share, one micro-batch at a time."""
        count = len(batch.own.lengths)
        size = self.plan.settings.micro_batch or count
        losses, predictions = torch.zeros(3, device=self.world.device), []
        for start in range(0, count, size):
            rows = slice(start, min(start + size, count))
            share = (rows.stop - rows.start) / count
            targets = Targets(batch.targets.texts, batch.targets.labels[rows])
            with self._synchronised(rows.stop == count):
                parts, predicted = self.plan.objective(self._forward, cut(batch.own, rows), targets, batch.draw[rows])
                (parts.total * share).backward()
            losses += share * torch.stack([part.detach().float() for part in parts])
            predictions.append(predicted)
        return _Result(losses, torch.cat(predictions))

    def _forward(self, *args: Tensor, **options: Any) -> Tensor:
        bf16 = self.plan.settings.precision == "bf16"
        with torch.autocast(self.world.device.type, dtype=torch.bfloat16, enabled=bf16):
            predicted: Tensor = self._model(*args, **options)
        return predicted.float() if bf16 else predicted

    def _synchronised(self, last: bool) -> Any:
        """Ranks exchange gradients once a step, with the last micro-batch."""
        if isinstance(self._model, DistributedDataParallel) and not last:
            return self._model.no_sync()
        return nullcontext()

    def _observe(self, batch: _Batch, result: _Result, lr: float, bar: Any) -> None:
        """Add a row to the curve, over the global batch."""
        total, mse, contrastive = self.world.mean(result.losses).tolist()
        predicted, images = self.world.gather(result.predicted), self.world.gather(batch.own.image_embeds)
        probes = probe(predicted, images, batch.targets.texts)
        row = curve_row(self.state.step, total, mse, contrastive, lr, probes, self.state.seconds)
        self.state.rows.append(row)
        bar.set_postfix_str(f"loss {total:.4f} cos {probes.image:.3f}", refresh=False)

    def _not_finite(self, step: int, loss: Tensor, norm: Tensor, records: np.ndarray) -> TrainingError:
        return TrainingError(
            f"step {step + 1}: loss {float(loss):g}, gradient norm {float(norm):g} with records {some(records)}; "
            f"lower train.lr ({self.plan.settings.lr:g}), raise train.warmup or use train.precision=fp32"
        )


@contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """On a CPU, sums in a fixed order, so that a continued training is bit-identical also with several threads."""
    if device.type != "cpu":
        yield
        return
    before, fill = torch.are_deterministic_algorithms_enabled(), _determinism.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    _determinism.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        _determinism.fill_uninitialized_memory = fill
