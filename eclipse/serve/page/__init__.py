"""The web page at ``/``: static files, sent with headers that let it load and reach nothing but this service."""

from __future__ import annotations

import hashlib
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

FOLDER = Path(__file__).parent
MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

HEADERS = {  # beside those that every answer of the service has
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    # Kept, but asked for at every visit: a new release must not meet half of an old page.
    "Cache-Control": "no-cache",
}


def routes() -> list[BaseRoute]:
    """``/`` and ``/page/<file>`` for each of the page's files, which are read once.

    A request names a route, never a file, so none can lead out of the folder. Answers carry an ETag; a request that
    knows it gets a 304 without a body.
    """
    files = sorted(path for path in FOLDER.iterdir() if path.suffix in MEDIA_TYPES)
    return [_route("/" if path.name == "index.html" else f"/page/{path.name}", path) for path in files]


def _route(url: str, path: Path) -> Route:
    content = path.read_bytes()
    media_type = MEDIA_TYPES[path.suffix]
    headers = HEADERS | {"ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"'}

    async def send(request: Request) -> Response:
        if headers["ETag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)

    return Route(url, send, methods=["GET"], include_in_schema=False)
