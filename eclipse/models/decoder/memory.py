"""Where a decoder's weights lie, in which type, and whether pixels come by tiles: as asked, or as there is room."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from eclipse.config.decoder import DecoderParams
from eclipse.errors import ConfigError

Offload = Literal["none", "model", "sequential"]
Settled = Literal["fp32", "fp16", "bf16"]

RESERVE = 2 * 2**30
"""Bytes of the GPU that weights leave to activations."""

_TYPES: dict[Settled, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_KEPT = 8
"""Full-size maps of a MoVQ's widest layer that are alive at once: in a spatially normalised residual block the input,
its residual, the enlarged latents, scale, shift, normalised and convolved. Counted from the code, not measured."""


def settled(precision: str, device: torch.device) -> Settled:
    """``precision`` by name, ``auto`` as it is taken there: ``fp16`` on a GPU and ``fp32`` on a CPU."""
    for name in _TYPES:
        if precision == name:
            return name
    return "fp32" if device.type == "cpu" else "fp16"


def weights_type(precision: str, device: torch.device) -> torch.dtype:
    """Type of weights and arithmetic; ``auto`` is float16 on a GPU and float32 on a CPU."""
    return _TYPES[settled(precision, device)]


def part_bytes(pipeline: Any) -> dict[str, int]:
    """Bytes of the weights of each part of a pipeline."""
    modules = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
    return {
        name: sum(value.numel() * value.element_size() for value in (*module.parameters(), *module.buffers()))
        for name, module in modules.items()
    }


def free_bytes(device: torch.device) -> int | None:
    """Free memory of a GPU; None for a CPU, whose memory holds the weights anyway.

    What PyTorch keeps of it for later tensors is free, too, though the driver counts it as used.
    """
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def choose_offload(asked: str, parts: Mapping[str, int], free: int | None) -> Offload:
    """What of ``parts`` (bytes by name) stays on a GPU with ``free`` bytes; None is a CPU, where all stays.

    ``auto`` keeps all parts there if :data:`RESERVE` remains beside them, else only the one at work, else only the
    layer at work. Asking a CPU to offload is a :class:`ConfigError`.
    """
    if free is None:
        if asked in ("model", "sequential"):
            raise ConfigError(f"decoder.offload: {asked} moves parts between memory and a GPU, and there is none here")
        return "none"
    if asked == "none" or (asked == "auto" and sum(parts.values()) + RESERVE <= free):
        return "none"
    if asked == "model" or (asked == "auto" and max(parts.values()) + RESERVE <= free):
        return "model"
    return "sequential"


def place(pipeline: Any, params: DecoderParams, device: torch.device) -> None:
    """Bring ``pipeline`` to ``device``, whole or by parts, as ``params.offload`` says or as there is room."""
    offload = choose_offload(params.offload, part_bytes(pipeline), free_bytes(device))
    if params.compile and offload == "sequential":
        raise ConfigError("decoder.compile: layers that are moved one by one cannot be compiled; set it to false")
    if offload == "none":
        pipeline.to(device)
    elif offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_sequential_cpu_offload(device=device)


def decode_bytes(movq: Any, latents: Tensor) -> int:
    """Bytes that a MoVQ takes for turning ``latents`` [B, C, h, w] into pixels at once, roughly."""
    widths = movq.config.block_out_channels
    pixels = latents.shape[0] * latents.shape[2] * latents.shape[3] * 4 ** (len(widths) - 1)
    return int(_KEPT * pixels * widths[min(1, len(widths) - 1)] * latents.element_size())


def wants_tiles(asked: bool | None, movq: Any, latents: Tensor, device: torch.device) -> bool:
    """Whether to decode ``latents`` by tiles: as ``asked``, else where a GPU's free memory does not hold the whole."""
    if asked is not None:
        return asked
    free = free_bytes(device)
    return free is not None and decode_bytes(movq, latents) > free
