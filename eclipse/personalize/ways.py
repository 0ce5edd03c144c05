"""Three ways from corner to corner, drawn: the prior's image embeddings, a cross-fade, and the text's embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eclipse.config.params import EvaluateParams
from eclipse.errors import DataError
from eclipse.personalize.generate import Request, Tools, control_embeds, decode_each, embed, encode, predict_embeds
from eclipse.personalize.interpolate import Condition, Mode, corners_of, grid, pixel_blend, text_grid
from eclipse.personalize.smoothness import grid_smoothness


@dataclass(frozen=True)
class Way:
    """Pictures uint8 [R, C, H, W, 3] from corner to corner, or the reason why there are none."""

    cells: NDArray[np.uint8] | None
    reason: str | None = None


def image_way(tools: Tools, corners: Sequence[Request], params: EvaluateParams, *, steps: int, mode: Mode) -> Way:
    """Pictures of the embeddings between those of ``corners``; the corner pictures are what ``generate`` draws.

    All use the decoder noise of the first corner's seed. A decoder that reads text reads none here, as there are no
    words between two prompts, so with such a one a corner shows its embedding alone.
    """
    embeds = torch.cat([predict_embeds(tools, corner, params) for corner in corners])
    return Way(_decode(tools, grid(embeds, steps, mode), corners[0].seeds[0], params))


def text_way(tools: Tools, corners: Sequence[Request], params: EvaluateParams, *, steps: int) -> Way:
    """Pictures of the prior's predictions for conditions linearly between those of ``corners``, with the same noise."""
    seed = corners[0].seeds[0]
    conditions = [_condition(tools, corner) for corner in corners]
    try:
        embeds = text_grid(conditions, steps, lambda point: embed(tools, point, point.control, seed, params))
    except DataError as error:
        return Way(None, str(error))
    return Way(_decode(tools, embeds, seed, params))


def pixel_way(image: Way, *, steps: int) -> Way:
    """The corner pictures of ``image`` faded into each other."""
    return image if image.cells is None else Way(pixel_blend(corners_of(image.cells), steps))


def figures(tools: Tools, way: Way) -> dict[str, Any]:
    """``ratio``, ``length``, ``paths`` (see :class:`~eclipse.personalize.smoothness.Smoothness`) and ``reason``."""
    if way.cells is None:
        return {"ratio": None, "length": None, "paths": 0, "reason": way.reason}
    if tools.decoder.movq is None:
        return {"ratio": None, "length": None, "paths": 0, "reason": "the decoder has no MoVQ to see differences by"}
    tools.decoder.turn("movq")
    measured = asdict(grid_smoothness(tools.decoder.movq, way.cells, tools.decoder.device))
    return {**measured, "reason": "no picture differs from the next" if measured["ratio"] is None else None}


def _decode(tools: Tools, points: Tensor, seed: int, params: EvaluateParams) -> NDArray[np.uint8]:
    flat = points.flatten(0, 1)
    images = decode_each(tools, flat, [seed] * len(flat), params.decode, "")
    return images.reshape(*points.shape[:2], *images.shape[1:])


def _condition(tools: Tools, corner: Request) -> Condition:
    text = encode(tools.clip, corner.prompt, corner.subjects)
    return Condition(text.text_states, text.lengths, text.prompt_embeds, control_embeds(tools, corner))
