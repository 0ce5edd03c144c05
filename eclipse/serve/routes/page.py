"""The web page and the figures for Prometheus: what is there beside the API."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from eclipse.serve import page
from eclipse.serve.metrics import CONTENT_TYPE
from eclipse.serve.routes.common import Server

router = APIRouter(include_in_schema=False, routes=page.routes())


@router.get("/metrics")
async def metrics(serving: Server) -> Response:
    """Figures for Prometheus."""
    serving.measure()
    return Response(serving.metrics.render(), headers={"Content-Type": CONTENT_TYPE})
