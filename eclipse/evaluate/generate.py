"""Predictions and pictures for evaluation: each prompt has its own seeds, the same for every method."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from eclipse.config.params import DecodeParams, EvaluateParams
from eclipse.embeddings.batch import Batch
from eclipse.embeddings.store import Store
from eclipse.models.api import predict
from eclipse.models.checkpoint import Prior
from eclipse.models.decoder import Decoder

_BATCH = 256

Condition = Callable[[Batch], tuple[Batch, Tensor | None]]
"""What a prior is asked with: the captions as it sees them, and the control vectors [B, P] of one that takes them."""


@dataclass(frozen=True)
class Targets:
    """What a split's store holds: ``image_embeds`` z_x and ``prompt_embeds`` z_y, float32 [N, P]."""

    image_embeds: NDArray[np.float32]
    prompt_embeds: NDArray[np.float32]


def prompt_seeds(split: str, ids: Sequence[str], purpose: str, seed: int) -> list[int]:
    """One seed in [0, 2⁶³) per prompt from its name alone, so that no method sees luckier noise than another."""
    keys = (f"{seed}\0{purpose}\0{split}\0{name}".encode() for name in ids)
    return [int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 1 for key in keys]


def read_targets(store: Store, index: NDArray[np.int64] | None = None) -> Targets:
    """z_x and z_y of ``index`` (default: all) in store order."""
    index = np.arange(len(store)) if index is None else index
    parts = [store.read(index[i : i + 16 * _BATCH]) for i in range(0, len(index), 16 * _BATCH)]
    return Targets(
        np.concatenate([part.image_embeds.float().numpy() for part in parts]),
        np.concatenate([part.prompt_embeds.float().numpy() for part in parts]),
    )


def text_only(batch: Batch) -> tuple[Batch, None]:
    """The captions as they are, and no control."""
    return batch, None


def predict_split(
    prior: Prior,
    store: Store,
    seeds: Sequence[int],
    params: EvaluateParams,
    *,
    desc: str,
    condition: Condition = text_only,
) -> tuple[NDArray[np.float32], float]:
    """ẑ_x float32 [N, P] for all captions of ``store`` under ``condition``, and the seconds spent in the prior."""
    parts, seconds = [], 0.0
    all_seeds = torch.tensor(list(seeds), dtype=torch.int64)
    for start in tqdm(range(0, len(store), _BATCH), desc=f"predict {desc}", delay=2.0, leave=False):
        batch, control = condition(store.gather(np.arange(start, min(start + _BATCH, len(store)))))
        began = time.perf_counter()
        predicted = predict(
            prior,
            batch,
            seeds=all_seeds[start : start + _BATCH],
            control_embeds=control,
            diffusion_steps=params.diffusion_steps,
            guidance=params.diffusion_guidance,
        )
        parts.append(predicted.cpu().numpy())  # waits for a GPU, so the clock is right there too
        seconds += time.perf_counter() - began
    return np.concatenate(parts), seconds


def decode_prompts(
    decoder: Decoder,
    image_embeds: NDArray[np.float32],
    seeds: Sequence[int],
    params: DecodeParams,
    negative: NDArray[np.float32] | None,
    prompts: Sequence[str],
) -> NDArray[np.uint8]:
    """Pictures uint8 [N, H, W, 3] of ``image_embeds`` [N, P] with one decoder seed each.

    ``prompts`` are the captions, for a decoder that reads them.
    """
    return decoder.decode(
        image_embeds,
        seeds=seeds,
        steps=params.steps,
        scheduler=params.scheduler,
        guidance=params.guidance,
        negative_embeds=negative,
        prompts=prompts,
        batch_size=params.batch_size,
    )
