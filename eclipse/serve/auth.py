"""The bearer token that ``ECLIPSE_API_KEY`` asks of callers; without the variable there is none to give."""

from __future__ import annotations

import hmac
import os

from starlette.types import ASGIApp, Receive, Scope, Send

from eclipse.serve.errors import ApiError
from eclipse.serve.files_store import PATH
from eclipse.serve.respond import respond

VARIABLE = "ECLIPSE_API_KEY"
GUARDED = "/v1/"


def api_key() -> str | None:
    """The token that is asked for; None where the variable is unset or empty."""
    return os.environ.get(VARIABLE) or None


class BearerToken:
    """Middleware: a 401 for calls under ``/v1/`` without the token ``key``.

    The page, health and metrics stay open, and so do pictures at their URLs: an <img> sends no header, and their names
    cannot be guessed.
    """

    def __init__(self, app: ASGIApp, key: str) -> None:
        self.app = app
        self.key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what has the token or needs none."""
        path = scope.get("path", "")
        guarded = scope["type"] == "http" and path.startswith(GUARDED) and not path.startswith(PATH)
        if guarded and not hmac.compare_digest(_token(scope), self.key):
            await respond(_refusal(scope), send)
        else:
            await self.app(scope, receive, send)


def _token(scope: Scope) -> bytes:
    given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    scheme, _, token = bytes(given).partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""


def _refusal(scope: Scope) -> ApiError:
    given = any(name == b"authorization" for name, _ in scope["headers"])
    message = (
        "the API key is wrong"
        if given
        else "no API key; send the header `Authorization: Bearer KEY` (api_key= of OpenAI's client)"
    )
    return ApiError(401, message, headers={"WWW-Authenticate": "Bearer"})
