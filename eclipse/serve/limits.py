"""Bodies are bounded while they are read: in size, in time, all together, and in who may send them."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eclipse.serve.errors import ApiError
from eclipse.serve.respond import respond

HELD = 8
"""Bodies of the largest size that may be held at once, by all requests together."""

_JSON = b"application/json"
_CURLS = b"application/x-www-form-urlencoded"


class BodyLimit:
    """Middleware: 413 for a body of more than ``max_bytes``, 408 for one that takes over ``seconds`` to arrive, 429
    when too much is held already, and 415 or 403 for what a web page of another origin could send unasked.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, seconds: float) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.seconds = seconds
        self.held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the header, then count what arrives."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        refusal = self._from_headers(scope)
        if refusal is not None:
            await respond(refusal, send)
            return
        body = _Body(self, receive)
        try:
            await self.app(_as_json(scope), body.receive, send)
        finally:
            self.held -= body.size

    def _from_headers(self, scope: Scope) -> ApiError | None:
        headers = dict(scope["headers"])
        if headers.get(b"sec-fetch-site") == b"cross-site":
            return ApiError(403, "pages of other sites may not call this server from a browser")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.max_bytes:
            return self.too_large()
        return None

    def too_large(self) -> ApiError:
        """The 413."""
        return ApiError(413, f"the body is larger than {self.max_bytes / 1e6:g} MB; send smaller pictures")


class _Body:
    """The body of one request as it arrives; :class:`ApiError` where a limit is passed."""

    def __init__(self, limit: BodyLimit, receive: Receive) -> None:
        self.limit = limit
        self._receive = receive
        self._deadline = asyncio.get_running_loop().time() + limit.seconds
        self._whole = False
        self.size = 0

    async def receive(self) -> Message:
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise ApiError(408, "the body did not arrive in time", headers={"Connection": "close"}) from None
        part = len(message.get("body", b""))
        self.size += part
        self.limit.held += part
        self._whole = not message.get("more_body", False)
        if self.size > self.limit.max_bytes:
            raise self.limit.too_large()
        if self.limit.held > HELD * self.limit.max_bytes:
            raise ApiError(429, "too many large requests at once", headers={"Retry-After": "2", "Connection": "close"})
        return message


def _as_json(scope: Scope) -> Scope:
    """curl -d says "form" of anything; a web page cannot pass for it, because browsers name their origin."""
    headers = dict(scope["headers"])
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != _CURLS or b"origin" in headers or b"sec-fetch-site" in headers:
        return scope
    kept = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
    return {**scope, "headers": [*kept, (b"content-type", _JSON)]}
