"""Pictures of prompts, with and without one's own subjects."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from eclipse.serve import wishes
from eclipse.serve.answers import Images
from eclipse.serve.edits import document, read_edit
from eclipse.serve.routes.common import WORK_ERRORS, Server, errors, images_of, rendering_of
from eclipse.serve.schema import Generation, Streamed
from eclipse.serve.serving import Serving
from eclipse.serve.stream import MEDIA_TYPE, EventStream, event_schema
from eclipse.serve.types import Prompt

router = APIRouter(tags=["images"])

_GENERATION, _EDIT = "image_generation", "image_edit"


def _responses(kind: str) -> dict[int | str, dict[str, Any]]:
    described = "the pictures; with `stream`, OpenAI's server-sent events"
    return {200: {"description": described, "content": {MEDIA_TYPE: {"schema": event_schema(kind)}}}, **WORK_ERRORS}


@router.post(
    "/v1/images/generations",
    operation_id="createImage",
    response_model=Images,
    response_model_exclude_none=True,
    responses=_responses(_GENERATION),
)
async def generations(serving: Server, request: Request, asked: Generation) -> Images | Response:
    """Draw pictures of one or several prompts."""
    prompts = wishes.prompts_of(serving, asked.prompt)
    return await _drawn(serving, request, asked, prompts, _GENERATION)


@router.post(
    "/v1/images/edits",
    operation_id="editImage",
    response_model=Images,
    response_model_exclude_none=True,
    responses={**_responses(_EDIT), **errors(415)},
    openapi_extra={"requestBody": {"required": True, "content": document()}},
)
async def edits(serving: Server, request: Request) -> Images | Response:
    """Draw pictures of a prompt with one's own subjects, edges, or both; as a form with files or as JSON."""
    edit = await read_edit(request)
    asked = edit.asked
    prompt = await asyncio.to_thread(wishes.personal_prompt, serving, asked.prompt, edit.subjects, edit.edges)
    return await _drawn(serving, request, asked, [prompt], _EDIT)


async def _drawn(
    serving: Serving, request: Request, asked: Streamed, prompts: Sequence[Prompt], kind: str
) -> Images | Response:
    n = asked.n or 1
    wishes.check_count(serving, n * len(prompts), "n")
    wishes.check_stream(asked, len(prompts))
    personal = any(prompt.subjects or prompt.control is not None for prompt in prompts)
    rendering = rendering_of(
        serving,
        request,
        asked,
        model=serving.catalogue.choose(asked.model, subjects=personal).model,
        wanted=wishes.wanted_of(prompts, n, asked.seed),
        drawing=wishes.drawing_of(serving, asked),
        partial_images=asked.partial_images or 0,
    )
    return EventStream(rendering, kind) if asked.stream else await images_of(rendering, request)
