"""What all calls share: the server's state, and the errors that they document."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Depends, Request

from eclipse.serve.answers import ErrorAnswer, Images
from eclipse.serve.files_store import PATH
from eclipse.serve.render import Rendering
from eclipse.serve.schema import Drawn as DrawnRequest
from eclipse.serve.serving import Serving
from eclipse.serve.types import Drawing, Job, Wanted
from eclipse.serve.work import all_drawn, unless_gone

_RETRY = {"Retry-After": {"description": "seconds to wait before trying again", "schema": {"type": "integer"}}}
_MEANINGS = {
    400: "the request cannot be honoured; `message` says what to change, `param` names the field",
    401: "no API key, or a wrong one",
    403: "the call comes from a page of another site",
    404: "unknown model or picture",
    408: "the body did not arrive in time",
    413: "the body is too large",
    415: "the body is neither a form nor JSON",
    429: "the server is busy",
    500: "the server failed, or no picture came of it (`degenerate_image`)",
    503: "the server is loading or stopping",
    504: "the request took too long and was given up",
}
_WAITING = (429, 503)


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These errors for the OpenAPI document."""
    return {
        status: {
            "model": ErrorAnswer,
            "description": _MEANINGS[status],
            **({"headers": _RETRY} if status in _WAITING else {}),
        }
        for status in statuses
    }


WORK_ERRORS = errors(400, 401, 403, 404, 408, 413, 429, 500, 503, 504)
"""Of calls that the engine works for."""
READ_ERRORS = errors(400, 401, 404)
"""Of calls that only look something up."""


def _serving(request: Request) -> Serving:
    serving: Serving = request.app.state.serving
    return serving


Server = Annotated[Serving, Depends(_serving)]


def rendering_of(
    serving: Serving,
    request: Request,
    asked: DrawnRequest,
    *,
    model: str,
    wanted: tuple[Wanted, ...],
    drawing: Drawing,
    partial_images: int = 0,
) -> Rendering:
    """The job of a request and how its pictures are given back."""
    job = Job(model, wanted, drawing, partial_images, serving.params.request_seconds)
    url = f"{str(request.base_url).rstrip('/')}{PATH}" if asked.response_format == "url" else None
    return Rendering(serving, job, drawing, url)


async def images_of(rendering: Rendering, request: Request) -> Images:
    """The answer with all pictures of a job."""
    serving = rendering.serving

    async def work() -> Images:
        drawn = await all_drawn(serving, rendering.job)
        items = await asyncio.to_thread(lambda: [rendering.item(one) for one in drawn])
        return rendering.images(items)

    return await unless_gone(request.receive, serving, work())
