"""Low-rank adapters of the UNet's attention (LoRA, arXiv 2106.09685), by ``peft``, merged before anything is saved."""

from __future__ import annotations

from typing import Any

import torch

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
"""The projections of every attention layer that get adapters."""


def add_adapters(unet: Any, rank: int, seed: int) -> Any:
    """Put adapters of ``rank`` (α = rank, so their scale is 1) into ``unet`` in place; all other weights are frozen.

    The first factor is random in ``seed`` and the second zero, so the UNet computes what it did. Returns the handle
    for :func:`merge_adapters`.
    """
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(unet, LoraConfig(r=rank, lora_alpha=rank, target_modules=list(TARGETS)))


def merge_adapters(adapted: Any) -> Any:
    """Add the adapters to the weights that they adapt and take them out; the UNet has its own parameter names again."""
    return adapted.merge_and_unload()
