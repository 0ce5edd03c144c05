"""What one pass of a CLIP costs, from its configuration alone: floating-point operations of all matrix products.

A multiplication and an addition count as two. Norms, activations, softmax and embeddings are left out, as usual; in
large CLIPs they are below a percent.
"""

from __future__ import annotations

from typing import Any


def image_flops(model_cfg: dict[str, Any]) -> int:
    """Operations for one picture; ``model_cfg`` is open_clip's, of a ViT or a modified ResNet."""
    vision = model_cfg["vision_cfg"]
    if isinstance(vision["layers"], list | tuple):
        return 2 * _resnet(vision, model_cfg["embed_dim"])
    width, patch = vision["width"], vision.get("patch_size", 16)
    grid = (vision["image_size"] // patch) ** 2
    stem = grid * 3 * patch * patch * width
    blocks = _blocks(grid + 1, width, vision["layers"], vision.get("mlp_ratio", 4.0))
    return 2 * (stem + blocks + width * model_cfg["embed_dim"])


def text_flops(model_cfg: dict[str, Any], tokens: int) -> int:
    """Operations for one caption that is computed ``tokens`` wide; padded captions are the context wide."""
    text = model_cfg["text_cfg"]
    blocks = _blocks(tokens, text["width"], text["layers"], text.get("mlp_ratio", 4.0))
    return 2 * (blocks + text["width"] * model_cfg["embed_dim"])


def _blocks(tokens: int, width: int, layers: int, ratio: float) -> int:
    """Multiplications of a transformer: four projections and two layers of the MLP, and attention's two products."""
    weights = 4 * width * width + 2 * width * int(width * ratio)
    return layers * (tokens * weights + 2 * tokens * tokens * width)


def _resnet(vision: dict[str, Any], embed_dim: int) -> int:
    width, side = vision["width"], vision["image_size"] // 2
    half = width // 2
    total = side**2 * 9 * (3 * half + half * half + half * width)
    side, inward = side // 2, width
    for stage, blocks in enumerate(vision["layers"]):
        planes = width * 2**stage
        for block in range(blocks):
            after = side // 2 if stage and not block else side
            total += side**2 * (inward * planes + 9 * planes * planes) + after**2 * planes * 4 * planes
            if not block:
                total += after**2 * inward * 4 * planes
            side, inward = after, 4 * planes
    tokens, channels = side**2 + 1, width * 32
    return total + tokens * (3 * channels**2 + channels * embed_dim + 2 * tokens * channels)
