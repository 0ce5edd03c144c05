"""Pictures on the way from one prompt to another."""

from __future__ import annotations

from fastapi import APIRouter, Request

from eclipse.serve import wishes
from eclipse.serve.answers import Images
from eclipse.serve.routes.common import WORK_ERRORS, Server, images_of, rendering_of
from eclipse.serve.schema import Interpolation
from eclipse.serve.types import Blend, Wanted

router = APIRouter(tags=["images"])


@router.post(
    "/v1/interpolate",
    operation_id="interpolate",
    response_model=Images,
    response_model_exclude_none=True,
    responses=WORK_ERRORS,
)
async def interpolate(serving: Server, request: Request, asked: Interpolation) -> Images:
    """Draw the image embeddings between those of two prompts, evenly spaced, all with one seed."""
    frames = asked.frames or 5
    wishes.check_count(serving, frames, "frames")
    first, second = wishes.prompt_of(serving, asked.from_, "from"), wishes.prompt_of(serving, asked.to, "to")
    seed, mode = wishes.first_seed(asked.seed), asked.mode or "slerp"
    wanted = tuple(Wanted(Blend(first, second, i / (frames - 1), mode), seed) for i in range(frames))
    prior = serving.catalogue.choose(asked.model, subjects=False)
    drawing = wishes.drawing_of(serving, asked)
    rendering = rendering_of(serving, request, asked, model=prior.model, wanted=wanted, drawing=drawing)
    return await images_of(rendering, request)
