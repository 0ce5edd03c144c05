"""The engine as the service sees it: jobs in, tickets out, priors exchanged while it runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from eclipse.config.serve import ServeParams
from eclipse.models.clip import FrozenClip
from eclipse.models.decoder import Decoder
from eclipse.serve.engine.book import Book
from eclipse.serve.engine.models import LoadedPrior
from eclipse.serve.engine.order import Order, cost, picture_cost
from eclipse.serve.engine.ticket import JobTicket
from eclipse.serve.engine.worker import Worker
from eclipse.serve.types import Drawing, GivenUpError, Job, JobTooLargeError, UnknownModelError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stats:
    """What the engine is at.

    ``pending`` is the cost of all that was taken on and not done, in decoder steps of one picture of the decoder's own
    size, and ``speed`` how much of it is done a second; ``queued`` counts pictures that wait for an embedding or a
    slot, ``slots_in_use`` those being drawn; ``step_seconds`` is the mean of late. ``failures`` counts errors that were
    not the input's. ``exact``: results have the same bits whatever the neighbours, as configured and as found on this
    machine.
    """

    pending: float
    queued: int
    slots_in_use: int
    step_seconds: float
    speed: float
    failures: int
    exact: bool


class Engine:
    """Draws the pictures of many jobs at once with one decoder, in a thread of its own.

    The models belong to the engine: nobody else may compute with ``decoder``. ``observe`` is called with phase and
    seconds: queue, text, prior and decoder of each picture, and each decoder step. ``record`` gets the lines of shadow
    scoring. Both are called in the compute thread and have to be quick.
    """

    def __init__(
        self,
        clip: FrozenClip,
        decoder: Decoder,
        priors: Mapping[str, LoadedPrior],
        params: ServeParams,
        *,
        observe: Callable[[str, float], None] | None = None,
        record: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self._book = Book(params.max_pending)
        self._params = params
        self._report = observe
        self._worker = Worker(clip, decoder, self._book, params, self._observe, record)
        self._worker.priors = dict(priors)
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._broken: Exception | None = None
        self._rows_agree = False

    def start(self) -> None:
        """Start the compute thread and return when the models have computed once; what fails there is raised here."""
        self._thread = threading.Thread(
            target=self._run, args=(torch.get_num_threads(),), name="eclipse-engine", daemon=True
        )
        self._thread.start()
        self._ready.wait()
        if self._broken is not None:
            raise self._broken

    def close(self, drain_seconds: float) -> None:
        """Take on nothing more, finish what is open within ``drain_seconds``, give up the rest, end the thread."""
        self._book.stop(drain_seconds)
        if self._thread is not None:
            self._thread.join()

    def submit(self, job: Job) -> JobTicket:
        """Take ``job`` on; call it in the asyncio loop that will read the ticket.

        :class:`UnknownModelError` for a model that is not loaded, :class:`JobTooLargeError` for a job that could never
        be taken on, :class:`RefusedError` where there is no room now, :class:`GivenUpError` when stopping, and
        :class:`~eclipse.errors.EclipseError` for a drawing that the decoder cannot make.
        """
        prior = self._worker.priors.get(job.model)
        if prior is None:
            raise UnknownModelError(f"no model {job.model!r} is loaded here")
        if job.drawing is not None:
            self.check(job.drawing)
        if self.cost(job) > self._params.max_pending:
            raise JobTooLargeError(self.cost(job), self._params.max_pending)
        share = picture_cost(job, self._worker.decoder)
        order = Order(job, JobTicket(self._book.wake), prior, share, time.monotonic())
        if job.wanted:
            self._book.add(order)
        else:
            order.ticket.finish()
        return order.ticket

    def check(self, drawing: Drawing) -> None:
        """:class:`~eclipse.errors.EclipseError` for a drawing that the decoder cannot make, its field first."""
        self._worker.decoder.check(drawing)

    def cost(self, job: Job) -> float:
        """What ``job`` counts against ``max_pending``, in decoder steps of one picture of the decoder's own size."""
        return cost(job, self._worker.decoder)

    def swap(self, priors: Mapping[str, LoadedPrior]) -> None:
        """Embed with ``priors`` from now on. Jobs whose embedding began keep theirs; none is dropped."""
        self._worker.priors = dict(priors)

    @property
    def priors(self) -> Mapping[str, LoadedPrior]:
        """Those in force, by model name."""
        return self._worker.priors

    def stats(self) -> Stats:
        """As of now; may be called from any thread."""
        orders = self._book.orders()
        return Stats(
            pending=self._book.pending(),
            queued=sum(len(order.waiting) + len(order.ready) for order in orders),
            slots_in_use=len(self._worker.seats),
            step_seconds=self._worker.step_seconds,
            speed=self._book.speed.value,
            failures=self._worker.failures,
            exact=self._params.exact and self._rows_agree,
        )

    def _run(self, threads: int) -> None:
        torch.set_num_threads(threads)
        with torch.no_grad():
            try:
                self._rows_agree = self._worker.warm_up()
            except Exception as error:
                self._broken = error
                return
            finally:
                self._ready.set()
            if self._params.exact and not self._rows_agree:
                log.warning(
                    "warning: on this machine a picture's bits depend on its slot; results are equal to rounding"
                )
            while self._book.wait(len(self._worker.shadow) > 0):
                self._round()
            self._worker.fail_all(GivenUpError("the server is stopping", stopping=True))

    def _round(self) -> None:
        """A round that cannot end the thread: an error that belongs to no single job ends the jobs that are open."""
        try:
            if self._book.orders():
                self._worker.round()
            else:
                self._worker.idle()
        except Exception as error:
            log.exception("the engine failed in a round; its open jobs end, and it goes on")
            self._worker.failures += 1
            self._worker.fail_all(error)

    def _observe(self, phase: str, seconds: float) -> None:
        if self._report is None:
            return
        try:
            self._report(phase, seconds)
        except Exception:
            log.exception("observing %s failed", phase)
