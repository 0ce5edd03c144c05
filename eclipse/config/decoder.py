"""How the frozen decoder is held in memory and computed, wherever pictures are drawn."""

from __future__ import annotations

from typing import Literal

from eclipse.config.section import Section

Sampler = Literal["dpm++", "ddim", "ddpm", "unclip"]
"""Samplers that are right with some decoder; each decoder says which it takes and refuses the others."""


class DecoderParams(Section):
    """Memory and speed of the decoder. On a CPU ``auto`` means float32, everything in memory, no tiles."""

    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """Weights and arithmetic; auto = fp16 on a GPU, fp32 on a CPU, so pictures differ between them; mini has fp32."""
    offload: Literal["auto", "none", "model", "sequential"] = "auto"
    """Keep on the GPU all parts, the part at work, or the layer at work; auto = by the GPU's free memory."""
    tiled: bool | None = None
    """Turn latents into pixels one picture at a time and tile by tile, which bounds memory; null = where the whole does
    not fit into free memory, so only true and false give a large picture the same pixels every time."""
    compile: bool = False
    """``torch.compile`` the UNet: minutes at the start, then fewer a step."""
