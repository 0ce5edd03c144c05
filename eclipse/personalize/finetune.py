"""Finetunes the decoder's UNet on concept pictures (λ-ECLIPSE, arXiv 2402.05195, §3.3): MSE on ε, given z_x.

What a step computes depends on (seed, step) and the weights alone.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from eclipse.config.subjects import FinetuneParams
from eclipse.errors import CheckpointError, TrainingError
from eclipse.personalize.finetune_data import Material, batch_indices
from eclipse.personalize.finetune_lora import add_adapters, merge_adapters
from eclipse.train.interrupt import EX_TEMPFAIL, stop_on_sigterm
from eclipse.train.state import Average, TrainingState

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """How to finetune. ``digest`` names all that the result depends on; without ``checkpoint`` no state is kept."""

    settings: FinetuneParams
    steps: int
    seed: int
    digest: str = ""
    checkpoint: Path | None = None


@dataclass(frozen=True)
class Noised:
    """The pictures of one optimiser step at random times: ``noisy``, ``noise`` [B, C, h, w], ``embeds`` [B, P].

    ``times`` int64 [B]; ``alphas`` ᾱ float32 [B]; ``index`` int64 [B], the pictures in the material. On the CPU.
    """

    noisy: Tensor
    noise: Tensor
    embeds: Tensor
    times: Tensor
    alphas: Tensor
    index: Tensor


def draw(material: Material, alphas: Tensor, seed: int, step: int, size: int) -> Noised:
    """``size`` pictures of step ``step`` (from 0) with uniform times and normal noise; ``alphas`` ᾱ float32 [T].

    Drawn on the CPU for the whole step, so neither the device nor the split into forward passes changes them.
    """
    index = torch.from_numpy(batch_indices(material.counts, seed, step, size))
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    times = torch.randint(0, len(alphas), (size,), generator=generator)
    clean = material.latents[index]
    noise = torch.randn(clean.shape, generator=generator)
    alpha = alphas[times]
    a = alpha.view(-1, 1, 1, 1)
    return Noised(a.sqrt() * clean + (1 - a).sqrt() * noise, noise, material.image_embeds[index], times, alpha, index)


def epsilon_of(prediction: Tensor, noisy: Tensor, alphas: Tensor, prediction_type: str) -> Tensor:
    """ε̂ [B, C, h, w] implied by a ``prediction`` of the scheduler's ``prediction_type`` at ᾱ ``alphas`` [B].

    With x_t = √ᾱ·x_0 + √(1−ᾱ)·ε: ``epsilon`` is ε itself, ``v_prediction`` v = √ᾱ·ε − √(1−ᾱ)·x_0 gives
    ε = √ᾱ·v + √(1−ᾱ)·x_t, and ``sample`` x_0 gives ε = (x_t − √ᾱ·x_0) / √(1−ᾱ).

    An MSE on ε hence weighs the error of v by ᾱ and that of x_0 by ᾱ / (1−ᾱ). The former never explodes: it fades at
    high noise, and at zero terminal SNR the last time teaches nothing, as ε is x_t there. The latter explodes at low
    noise, where only gradient clipping holds it.
    """
    a = alphas.view(-1, 1, 1, 1)
    if prediction_type == "epsilon":
        return prediction
    if prediction_type == "v_prediction":
        return a.sqrt() * prediction + (1 - a).sqrt() * noisy
    if prediction_type == "sample":
        return (noisy - a.sqrt() * prediction) / (1 - a).sqrt()
    raise CheckpointError(
        f"decoder scheduler: prediction_type {prediction_type!r} is not known; use epsilon, v_prediction or sample"
    )


class Finetuner:
    """Finetunes ``unet`` in place, on the device where it is; ``scheduler`` gives ᾱ and the prediction type."""

    def __init__(self, unet: Any, scheduler: Any, material: Material, plan: Plan) -> None:
        self.unet, self.material, self.plan = unet, material, plan
        self._kind = str(scheduler.config.prediction_type)
        self._alphas: Tensor = scheduler.alphas_cumprod.float().cpu()
        settings = plan.settings
        unet.requires_grad_(True).train()
        if settings.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        self._adapted = add_adapters(unet, settings.lora_rank, plan.seed) if settings.lora_rank else None
        self._trained = [p for p in unet.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(self._trained, lr=settings.lr, weight_decay=settings.weight_decay)
        average = Average(unet, settings.ema) if settings.ema else None
        self.state = TrainingState(unet, optimizer, LambdaLR(optimizer, lambda step: 1.0), average)
        if plan.checkpoint is not None and self.state.restore(plan.checkpoint, plan.digest):
            log.info("%s: going on after step %d", plan.checkpoint, self.state.step)

    def run(self) -> TrainingState:
        """Train to the last step; ``unet`` then holds the moving average, if there is one, with adapters merged.

        SIGTERM ends it with exit code 75 after a checkpoint; the same command goes on. A value that is not finite is a
        :class:`TrainingError` that names the step and the pictures. ``state.rows`` has step and loss of every step.
        """
        state, plan = self.state, self.plan
        began = time.perf_counter() - state.seconds
        bar = tqdm(
            range(state.step, plan.steps), initial=state.step, total=plan.steps, desc="finetune", mininterval=1.0
        )
        with stop_on_sigterm() as stop, bar:
            for step in bar:
                loss = self._step(step)
                state.rows.append({"step": float(state.step), "loss": loss})
                state.seconds = time.perf_counter() - began
                bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
                stopping = stop.made and state.step < plan.steps
                if stopping or state.step % plan.settings.checkpoint_every == 0 or state.step == plan.steps:
                    self._save()
                if stopping:
                    log.warning("stopped after step %d; run the same command to go on", state.step)
                    raise SystemExit(EX_TEMPFAIL)
        self._finish()
        return state

    def _step(self, step: int) -> float:
        """One optimiser step of ``batch_size × accumulate`` pictures; the mean loss over them."""
        settings, state = self.plan.settings, self.state
        batch = draw(self.material, self._alphas, self.plan.seed, step, settings.batch_size * settings.accumulate)
        state.optimizer.zero_grad(set_to_none=True)
        loss = self._backward(batch)
        norm = nn.utils.clip_grad_norm_(self._trained, settings.clip_norm)
        if not torch.isfinite(loss + norm):
            shown = ", ".join(sorted({self.material.names[int(i)] for i in batch.index})[:3])
            raise TrainingError(
                f"step {step + 1}: loss {float(loss):g}, gradient norm {float(norm):g} with {shown}; "
                f"lower finetune.lr ({settings.lr:g}) or replace the picture"
            )
        state.optimizer.step()
        state.scheduler.step()
        if state.average is not None:
            state.average.update(state.prior, step)
        state.step = step + 1
        return float(loss)

    def _backward(self, batch: Noised) -> Tensor:
        """Accumulate the gradient of the mean loss, ``accumulate`` forward passes of ``batch_size`` pictures each."""
        settings = self.plan.settings
        total = torch.zeros((), device=self.unet.device)
        for start in range(0, len(batch.index), settings.batch_size):
            loss = self._loss(batch, slice(start, start + settings.batch_size)) / settings.accumulate
            loss.backward()
            total += loss.detach()
        return total

    def _loss(self, batch: Noised, rows: slice) -> Tensor:
        device, channels = self.unet.device, batch.noisy.shape[1]
        noisy, noise = batch.noisy[rows].to(device), batch.noise[rows].to(device)
        prediction = self.unet(
            noisy,
            batch.times[rows].to(device),
            encoder_hidden_states=None,
            added_cond_kwargs={"image_embeds": batch.embeds[rows].to(device)},
        ).sample[:, :channels]  # behind them lies the variance, which no loss is taken on
        return nn.functional.mse_loss(epsilon_of(prediction, noisy, batch.alphas[rows].to(device), self._kind), noise)

    def _save(self) -> None:
        if self.plan.checkpoint is not None:
            self.state.save(self.plan.checkpoint, self.plan.digest)

    def _finish(self) -> None:
        if self.state.average is not None:
            self.state.average.copy_to(self.unet)
        if self._adapted is not None:
            merge_adapters(self._adapted)
        self.unet.disable_gradient_checkpointing()
        self.unet.requires_grad_(False).eval()
