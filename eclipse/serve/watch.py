"""New champions are switched to while the server runs, without a dropped request."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from eclipse.errors import EclipseError
from eclipse.releases import Served, resolve, signature
from eclipse.serve.catalogue import Catalogue
from eclipse.serve.serving import Serving

if TYPE_CHECKING:
    from eclipse.models.clip import FrozenClip
    from eclipse.serve.engine import LoadedPrior

log = logging.getLogger(__name__)


class Watcher(threading.Thread):
    """Looks every ``poll_seconds`` whether ``root`` serves something else now.

    New priors are loaded beside the old ones; what cannot be loaded is told, and the old ones go on. ``load`` is
    :func:`eclipse.serve.engine.load_priors`; priors that are in memory are not read again.
    """

    def __init__(
        self,
        serving: Serving,
        root: Path,
        load: Callable[[Served, FrozenClip, Mapping[str, LoadedPrior]], Mapping[str, LoadedPrior]],
    ) -> None:
        super().__init__(name="releases", daemon=True)
        self.serving = serving
        self.root = root
        self._load = load
        self._stopped = threading.Event()
        self._seen = signature(root)
        self._told: str | None = None

    def run(self) -> None:
        """Look until :meth:`stop`."""
        while not self._stopped.wait(self.serving.params.poll_seconds):
            self.look()

    def stop(self) -> None:
        """Look no more; returns when a look that goes on is done."""
        self._stopped.set()
        if self.is_alive():
            self.join()

    def look(self) -> None:
        """Switch to what is there if it changed. What failed is tried again each time, and told once."""
        try:
            found = signature(self.root)
            if found != self._seen:
                self._switch(resolve(self.root))
                self._seen, self._told = found, None
        except (EclipseError, OSError) as error:
            self._tell("failed", f"a new release is not served, the old one goes on: {error}")
        except Exception:
            log.exception("looking for a new release failed, the old one goes on")
            self._tell("failed", "looking for a new release failed")

    def _switch(self, served: Served) -> None:
        serving = self.serving
        old = serving.catalogue.served
        if served == old:
            return
        if (served.frozen_digest, served.decoder_hash, served.encoder_hash) != (
            old.frozen_digest,
            old.decoder_hash,
            old.encoder_hash,
        ):
            raise EclipseError(f"{served.release} has another CLIP or decoder; restart the server to serve it")
        priors = self._load(served, serving.clip, serving.engine.priors)
        # Pictures of the old priors may still be on their way, and those of new ones come as soon as they are switched.
        serving.identity = serving.identity.knowing(served)
        serving.engine.swap(priors)
        serving.catalogue = Catalogue(served)
        serving.metrics.swaps.labels("done").inc()
        log.info("%s is served now, %s no more", served.release, old.release)

    def _tell(self, outcome: str, message: str) -> None:
        if message != self._told:
            self._told = message
            self.serving.metrics.swaps.labels(outcome).inc()
            log.error("%s", message)
