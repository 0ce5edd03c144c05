"""What a running server holds: models, parameters, figures, and the release that is in force."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eclipse.config.serve import ServeParams
from eclipse.models.clip import FrozenClip
from eclipse.serve.catalogue import Catalogue
from eclipse.serve.files_store import FilesStore
from eclipse.serve.metrics import Metrics
from eclipse.serve.safety import SafetyChecker

if TYPE_CHECKING:
    from eclipse.serve.engine import Engine
    from eclipse.serve.provenance.identity import Identity
    from eclipse.serve.provenance.signing import Signer


@dataclass
class Serving:
    """All that requests need. ``catalogue`` and ``identity`` are exchanged with a new release; the rest stays.

    ``image_size`` is the decoder's own, in pixels, and ``schedulers`` are those that it takes; ``max_subjects`` the
    most that priors are trained with.
    """

    params: ServeParams
    engine: Engine
    clip: FrozenClip
    image_size: int
    schedulers: tuple[str, ...]
    max_subjects: int
    catalogue: Catalogue
    identity: Identity
    metrics: Metrics
    files: FilesStore
    checker: SafetyChecker | None = None
    signer: Signer | None = None

    @property
    def sizes(self) -> list[str]:
        """``WIDTHxHEIGHT``, the decoder's own first."""
        return list(dict.fromkeys([f"{self.image_size}x{self.image_size}", *self.params.sizes]))

    @property
    def max_pixels(self) -> int:
        """Of a picture in a request."""
        return round(self.params.max_picture_mp * 1e6)

    def measure(self) -> None:
        """Bring the gauges up to date with the engine."""
        stats = self.engine.stats()
        self.metrics.pending.set(stats.pending)
        self.metrics.queue.set(stats.queued)
        self.metrics.slots.set(stats.slots_in_use)
