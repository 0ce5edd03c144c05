"""An error sent by a middleware, before any route is asked."""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import Message, Scope, Send

from eclipse.serve.errors import ApiError


async def respond(error: ApiError, send: Send) -> None:
    """Send ``error`` and close the connection: its request may be unread."""
    headers = {**(error.headers or {}), "Connection": "close"}
    response = JSONResponse(error.body(), error.status_code, headers=headers)
    scope: Scope = {"type": "http"}
    await response(scope, _nothing, send)


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
