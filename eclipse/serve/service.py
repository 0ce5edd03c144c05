"""The BentoML service: ``bentoml serve`` in a checkout or a Bento. Everything heavy is imported by its worker only."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import bentoml
from bentoml._internal.utils.analytics.usage_stats import do_not_track

from eclipse.config import load_params
from eclipse.serve.lifetime import Mounted, OwnPaths, Worker

do_not_track.cache_clear()  # the command line asked before it loaded this module

ROOT = Path()
_SPARE_SECONDS = 60.0

mounted = Mounted()


def _timeout() -> float:
    """BentoML's own limit must not come before ours, whose error says more."""
    params = ROOT / "params.yaml"
    seconds = load_params(params).serve.request_seconds if params.is_file() else 0
    return seconds + _SPARE_SECONDS


def _show_log() -> None:
    ours = logging.getLogger("eclipse")
    ours.handlers, ours.level, ours.propagate = logging.getLogger("bentoml").handlers, logging.INFO, False


@bentoml.service(
    name="eclipse",
    workers=1,  # one process owns the models; it works on many requests at once
    traffic={"timeout": _timeout()},
    http={"host": "127.0.0.1"},  # --host and BENTOML_HOST count more
    metrics={"enabled": False},  # ours are at /metrics; BentoML's would have a series for each path ever asked for
)
@bentoml.asgi_app(mounted, path="/")
class EclipseService:
    """Pictures by ECLIPSE and λ-ECLIPSE priors, in the shapes of OpenAI's image API."""

    def __init__(self) -> None:
        _show_log()
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)  # one worker counts in memory, not in files shared by servers
        self._worker = Worker(mounted, ROOT)
        self._worker.start()

    @bentoml.on_shutdown
    def stop(self) -> None:
        """When all answers are sent."""
        self._worker.stop()

    async def __is_ready__(self) -> bool:
        return self._worker.ready

    async def __is_alive__(self) -> bool:
        return self._worker.alive


_service: Any = EclipseService  # the decorator made it one
_service.add_asgi_middleware(OwnPaths, mounted=mounted)
