"""The worker process: it loads in the background, drains when it is told to stop, and ends with its supervisor."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

if TYPE_CHECKING:
    from eclipse.serve.serving import Serving
    from eclipse.serve.watch import Watcher

log = logging.getLogger(__name__)

_ORPHAN_SECONDS = 1.0


class Mounted:
    """The ASGI application that BentoML mounts: a 503 until there is one."""

    def __init__(self) -> None:
        self.app: ASGIApp | None = None
        self.fault: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on."""
        if self.app is not None:
            await self.app(scope, receive, send)
            return
        message = "the server could not load; its log says why" if self.fault else "the server is loading"
        body = {"error": {"message": message, "type": "server_error", "param": None, "code": "unavailable"}}
        await JSONResponse(body, 503, headers={"Retry-After": "2"})(scope, receive, send)


class OwnPaths:
    """Middleware before BentoML's own routes: ``/healthz`` is ready and not merely alive, ``/schema.json`` is ours."""

    def __init__(self, app: ASGIApp, mounted: Mounted) -> None:
        self.app = app
        self.mounted = mounted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, to the application that it belongs to."""
        path = scope.get("path")
        waiting = path == "/healthz" and self.mounted.app is None
        await (self.mounted if waiting or path == "/schema.json" else self.app)(scope, receive, send)


class Worker:
    """What a worker process does beside answering: :meth:`start` returns at once."""

    def __init__(self, mounted: Mounted, root: Path) -> None:
        self.mounted = mounted
        self.root = root
        self.serving: Serving | None = None
        self._watcher: Watcher | None = None
        self._parent = os.getppid()

    def start(self) -> None:
        """Load in a thread, and take heed of signals; call it in the main thread, after the server's own handlers."""
        threading.Thread(target=self._load, name="load", daemon=True).start()
        threading.Thread(target=self._end_with_parent, name="parent", daemon=True).start()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._draining(signal.getsignal(number)))

    @property
    def ready(self) -> bool:
        """Whether everything is loaded and verified."""
        return self.mounted.app is not None

    @property
    def alive(self) -> bool:
        """False when loading failed: a restart may help, waiting does not."""
        return self.mounted.fault is None

    def stop(self) -> None:
        """Finish what was taken on, for ``drain_seconds`` at most, then give up the rest."""
        if self._watcher is not None:
            self._watcher.stop()
        if self.serving is not None:
            self.serving.engine.close(self.serving.params.drain_seconds)

    def _load(self) -> None:
        from eclipse.errors import EclipseError

        try:
            from eclipse.serve.app import create_app
            from eclipse.serve.auth import api_key
            from eclipse.serve.engine import load_priors
            from eclipse.serve.load import load
            from eclipse.serve.watch import Watcher

            self.serving = load(self.root)
            self._watcher = Watcher(self.serving, self.root, load_priors)
            self._watcher.start()
            self.mounted.app = create_app(self.serving, key=api_key())
        except (EclipseError, OSError) as error:
            self._fail(str(error))
        except Exception as error:
            log.exception("loading failed")
            self._fail(str(error))

    def _fail(self, fault: str) -> None:
        log.error("nothing is served: %s", fault)
        self.mounted.fault = fault  # last: whoever sees the fault finds its line in the log

    def _draining(self, before: Any) -> Any:
        def handler(number: int, frame: FrameType | None) -> None:
            threading.Thread(target=self.stop, name="drain", daemon=True).start()
            if callable(before):
                before(number, frame)

        return handler

    def _end_with_parent(self) -> None:
        """A supervisor that was killed leaves its workers behind, with the port."""
        while os.getppid() == self._parent:
            time.sleep(_ORPHAN_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
