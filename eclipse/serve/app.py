"""The HTTP application around what is served."""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eclipse.serve import document, errors
from eclipse.serve.auth import BearerToken
from eclipse.serve.limits import BodyLimit
from eclipse.serve.metrics import Metrics
from eclipse.serve.routes import embeddings, files, images, interpolate, models, page
from eclipse.serve.serving import Serving
from eclipse.serve.work import ClientGoneError

_GONE = 499
_SECURE = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))


def create_app(serving: Serving, *, key: str | None = None) -> FastAPI:
    """The application for ``serving``; with ``key`` calls under ``/v1/`` need it as their bearer token."""
    app = FastAPI(title="ECLIPSE", docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.serving = serving
    for routes in (images, files, embeddings, interpolate, models, page):
        app.include_router(routes.router)
    errors.install(app)
    app.add_exception_handler(ClientGoneError, _on_gone)
    document.install(app, serving, key=key is not None)
    params = serving.params
    app.add_middleware(BodyLimit, max_bytes=round(params.max_body_mb * 1e6), seconds=params.request_seconds)
    if key is not None:
        app.add_middleware(BearerToken, key=key)
    app.add_middleware(_Measured, metrics=serving.metrics)
    return app


async def _on_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=_GONE)  # nobody reads it


class _Measured:
    """Middleware: time and status of each answer by route, and headers that every answer has."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and look at what is sent."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_SECURE]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            route = _route(scope)
            self.metrics.requests.labels(route, str(status)).observe(time.perf_counter() - started)
            if status >= 400:
                self.metrics.refusals.labels(errors.CODES.get(status, str(status))).inc()


def _route(scope: MutableMapping[str, Any]) -> str:
    """The pattern that matched: labels must not grow with what people ask for."""
    return str(getattr(scope.get("route"), "path", "none"))
