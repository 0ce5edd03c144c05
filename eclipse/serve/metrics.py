"""What Prometheus reads from ``/metrics``. Labels are few and known beforehand: no path, no prompt, no name."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
PHASES = ("queue", "text", "prior", "decoder", "step")

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_DIFFERENCES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0)


class Metrics:
    """The service's own figures, in a registry of their own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.phases = Histogram(
            "eclipse_phase_seconds",
            "Time of a picture in a phase; step: one decoder step of all slots",
            ["phase"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.requests = Histogram(
            "eclipse_request_seconds",
            "Time until an answer was whole",
            ["route", "status"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.images = Counter("eclipse_images", "Finished pictures", ["variant", "role", "outcome"], registry=registry)
        self.refusals = Counter("eclipse_refusals", "Answers other than success", ["code"], registry=registry)
        self.gone = Counter("eclipse_clients_gone", "Requests whose client left before the answer", registry=registry)
        self.pending = Gauge(
            "eclipse_pending_steps", "Work taken on, in decoder steps of one picture", registry=registry
        )
        self.queue = Gauge("eclipse_queue_pictures", "Pictures that wait for a slot", registry=registry)
        self.slots = Gauge("eclipse_slots_in_use", "Pictures that the decoder works on", registry=registry)
        self.swaps = Counter("eclipse_swaps", "New releases, by what became of them", ["outcome"], registry=registry)
        self.shadow = Histogram(
            "eclipse_shadow_cosine_distance",
            "1 - cosine between the embeddings of champion and candidate for a live prompt",
            buckets=_DIFFERENCES,
            registry=registry,
        )
        for phase in PHASES:
            self.phases.labels(phase)

    def observe(self, phase: str, seconds: float) -> None:
        """Count ``seconds`` of a picture in ``phase``; what the engine calls."""
        self.phases.labels(phase).observe(seconds)

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
