"""Server-sent events in OpenAI's format: unfinished pictures, then each finished one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from eclipse.serve.answers import Item
from eclipse.serve.errors import as_api_error
from eclipse.serve.render import Rendering, check_any_ok, plain_png, size_of, usage_of
from eclipse.serve.types import Drawn, Partial, Ticket
from eclipse.serve.work import ClientGoneError, unless_gone

MEDIA_TYPE = "text/event-stream"


class EventStream(StreamingResponse):
    """The events of a job, ``kind`` being ``image_generation`` or ``image_edit``.

    The job is taken on before anything is sent, so that a refusal is a refusal and no broken stream; it is given up
    when the client leaves, also between two events.
    """

    def __init__(self, rendering: Rendering, kind: str) -> None:
        self._serving = rendering.serving
        self._ticket = rendering.serving.engine.submit(rendering.job)
        lines = _lines(rendering, kind, self._ticket)
        super().__init__(lines, media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            with contextlib.suppress(ClientGoneError):
                await unless_gone(receive, self._serving, super().__call__(scope, _never, send))
        finally:
            self._ticket.cancel()


def event_schema(kind: str) -> dict[str, Any]:
    """One event for the OpenAPI document."""
    names = [f"{kind}.{name}" for name in ("partial_image", "completed", "withheld")]
    data = {"type": "string", "contentMediaType": "application/json", "description": "an object; `type` is the event"}
    properties = {"event": {"enum": [*names, "error"]}, "data": data}
    return {"type": "object", "properties": properties, "required": ["event", "data"]}


async def _lines(rendering: Rendering, kind: str, ticket: Ticket) -> AsyncIterator[str]:
    async for event in _events(rendering, kind, ticket):
        yield f"event: {event['type']}\ndata: {json.dumps(event, allow_nan=False)}\n\n"


async def _events(rendering: Rendering, kind: str, ticket: Ticket) -> AsyncIterator[dict[str, Any]]:
    items: list[Item] = []
    try:
        async for event in ticket:
            if isinstance(event, Drawn):
                items.append(await asyncio.to_thread(rendering.item, event))
                yield _finished(rendering, kind, items[-1])
            elif isinstance(event, Partial):
                yield await asyncio.to_thread(_unfinished, rendering, kind, event)
        check_any_ok(items)
    except Exception as error:
        told = as_api_error(error)
        rendering.serving.metrics.refusals.labels(told.code).inc()
        yield {"type": "error", **told.body()}


def _finished(rendering: Rendering, kind: str, item: Item) -> dict[str, Any]:
    name = "completed" if item.outcome == "ok" else "withheld"
    usage = usage_of(rendering.serving, [rendering.job.wanted[item.index]]).model_dump()
    return {**_common(rendering, f"{kind}.{name}"), **item.model_dump(exclude_none=True), "usage": usage}


def _unfinished(rendering: Rendering, kind: str, event: Partial) -> dict[str, Any]:
    return {
        **_common(rendering, f"{kind}.partial_image"),
        "b64_json": plain_png(event.image),
        "partial_image_index": event.number,
        "index": event.index,
        "seed": rendering.job.wanted[event.index].seed,
    }


def _common(rendering: Rendering, name: str) -> dict[str, Any]:
    return {
        "type": name,
        "created_at": int(time.time()),
        "size": size_of(rendering.drawing),
        "quality": "auto",
        "background": "opaque",
        "output_format": "png",
        "model": rendering.job.model,
    }


async def _never() -> Message:
    """Who watches for the client's leaving is another."""
    return await asyncio.get_running_loop().create_future()
