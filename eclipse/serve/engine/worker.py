"""The compute thread's round: give up what is over, embed, fill the slots, one decoder step, hand out what is done."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eclipse.config.serve import ServeParams
from eclipse.errors import EclipseError
from eclipse.models.clip import FrozenClip
from eclipse.models.decoder import Decoder, Sketch
from eclipse.serve.engine.book import Book
from eclipse.serve.engine.embed import Embedder, Need, Observe
from eclipse.serve.engine.models import LoadedPrior
from eclipse.serve.engine.order import Embeds, Order
from eclipse.serve.engine.shadow import Shadow
from eclipse.serve.engine.stepper import Stepper
from eclipse.serve.engine.turns import Turns
from eclipse.serve.types import Drawing, Drawn, Embedded, GivenUpError, Partial, text_of

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Seat:
    """A picture in the slots, of ``order``, since ``began`` (monotonic); ``marks``: steps after which it is shown."""

    order: Order
    embeds: Embeds
    picture: Sketch
    began: float
    marks: dict[int, int] = field(default_factory=dict)


class Worker:
    """Everything that only the compute thread touches, but for :attr:`priors`, which may be replaced at any time."""

    def __init__(
        self,
        clip: FrozenClip,
        decoder: Decoder,
        book: Book,
        params: ServeParams,
        observe: Observe,
        record: Callable[[dict[str, Any]], None] | None,
    ) -> None:
        self.decoder = decoder
        self.stepper = Stepper(decoder, 2 * params.slots, exact=params.exact)
        self.embedder = Embedder(clip, decoder, exact=params.exact, observe=observe)
        self.shadow = Shadow(self.embedder, params.shadow_share, record)
        self.priors: Mapping[str, LoadedPrior] = {}
        self.seats: list[Seat] = []
        self.step_seconds = 0.0
        self.failures = 0
        self._book = book
        self._turns = Turns(params.slots)
        self._prior_batch = params.prior_batch
        self._observe = observe

    def warm_up(self) -> bool:
        """Compute everything once, which the first request would else wait for; whether rows agree (see Stepper)."""
        size = self.decoder.image_size
        drawing = Drawing(2, self.decoder.schedulers[0], 1.0, size, size)
        picture = self.decoder.begin(drawing, 0, self.embedder.nothing[0])
        agree = self.stepper.rows_agree(picture)
        began = time.monotonic()
        while not picture.finished:
            failures = self.stepper.step([picture])
            if failures:
                raise failures[picture]
            if picture.done == 1:  # the rest is of other networks, where there are any
                self.step_seconds = time.monotonic() - began
        self._book.speed.add(self.stepper.rows / 2, self.step_seconds)
        picture.pixels()
        self.decoder.release()
        return agree

    def round(self) -> None:
        """One round over all open orders; what fails, fails its own order only."""
        began = time.monotonic()
        orders = self._book.orders()
        self._give_up(orders, began)
        self._embed([order for order in self._book.orders() if order.waiting])
        self._fill()
        work = self._step()
        self._hand_out()
        if work:
            self._book.speed.add(work, time.monotonic() - began)

    def idle(self) -> None:
        """Nothing else is to be done."""
        try:
            self.shadow.run_one()
        except Exception as error:
            log.warning("shadow scoring failed: %s", type(error).__name__)

    def fail_all(self, error: Exception) -> None:
        """End every open order with ``error``."""
        for order in self._book.orders():
            self._end(order, error)
        self.seats.clear()

    def _give_up(self, orders: Sequence[Order], now: float) -> None:
        for order in orders:
            if order.ticket.cancelled:
                self._end(order, None)
            elif now > order.deadline:
                self._end(order, GivenUpError(f"the request took longer than {order.job.seconds:g} s"))

    def _embed(self, orders: Sequence[Order]) -> None:
        """Embed the next pictures, one of each order by turns."""
        chosen: list[Order] = []
        needs: list[Need] = []
        while len(needs) < self._prior_batch and any(order.waiting for order in orders):
            for order in [order for order in orders if order.waiting][: self._prior_batch - len(needs)]:
                chosen.append(order)
                needs.append(self._need(order))
        for order, need, result in zip(chosen, needs, self.embedder.embed(needs), strict=True):
            if isinstance(result, Exception):
                self._fail(order, result)
            elif order.open:
                order.ticket.deliver(Embedded(need.index, result.image.cpu(), need.prior.name))
                self._embedded(order, need, result)

    def _need(self, order: Order) -> Need:
        if not order.bound:
            order.prior = self.priors.get(order.job.model, order.prior)
            order.bound = True
        index = order.waiting.popleft()
        return Need(index, order.job.wanted[index], order.prior, order.job.drawing)

    def _embedded(self, order: Order, need: Need, result: Embeds) -> None:
        if order.job.drawing is not None:
            order.ready.append(result)
            return
        order.pay(order.share)
        self._answered(order, need.index, result)

    def _fill(self) -> None:
        while True:
            free = self.stepper.rows - sum(seat.picture.rows for seat in self.seats)
            size = self.seats[0].order.size if self.seats else None
            order = self._turns.next(self._book.orders(), size)
            if order is None or order.job.drawing is None or free < (2 if order.job.drawing.guidance > 1 else 1):
                return
            self._turns.took()
            self._book.served(order)
            try:
                self._seat(order, order.ready.popleft(), order.job.drawing)
            except Exception as error:
                self._fail(order, error)

    def _seat(self, order: Order, embeds: Embeds, drawing: Drawing) -> None:
        now = time.monotonic()
        wanted = order.job.wanted[embeds.index]
        picture = self.decoder.begin(drawing, wanted.seed, embeds.image, embeds.negative, text_of(wanted.source))
        embeds.seconds["queue"] = max(0.0, now - order.submitted - sum(embeds.seconds.values()))
        self._observe("queue", embeds.seconds["queue"])
        self.seats.append(Seat(order, embeds, picture, now, marks(picture.steps, order.job.partial_images)))

    def _step(self) -> float:
        """One step of all that is in the slots; the cost that this was."""
        if not self.seats:
            return 0.0
        began = time.monotonic()
        failures = self.stepper.step([seat.picture for seat in self.seats])
        seconds = time.monotonic() - began
        self.step_seconds = 0.9 * self.step_seconds + 0.1 * seconds
        self._observe("step", seconds)
        work = 0.0
        for seat in list(self.seats):
            if seat.picture in failures:
                self._fail(seat.order, failures[seat.picture])
            else:
                done = seat.order.share / seat.picture.steps
                seat.order.pay(done)
                work += done
        return work

    def _hand_out(self) -> None:
        for seat in list(self.seats):
            if seat not in self.seats:  # its order failed with another picture
                continue
            try:
                self._show(seat)
            except Exception as error:
                self._fail(seat.order, error)

    def _show(self, seat: Seat) -> None:
        order, picture, index = seat.order, seat.picture, seat.embeds.index
        if order.ticket.cancelled:
            return
        if not picture.finished:
            if picture.done in seat.marks:
                order.ticket.deliver(Partial(index, seat.marks[picture.done], picture.preview()))
            return
        image, finite = picture.pixels()
        self.decoder.release()
        seconds = {**seat.embeds.seconds, "decoder": time.monotonic() - seat.began}
        self._observe("decoder", seconds["decoder"])
        self.seats.remove(seat)
        order.ticket.deliver(Drawn(index, image, seat.embeds.image.cpu(), order.prior.name, finite, seconds))
        self._answered(order, index, seat.embeds)

    def _answered(self, order: Order, index: int, embeds: Embeds) -> None:
        self.shadow.consider(order.job.wanted[index], order.prior, embeds.image, self.priors)
        if order.close_one():
            self._end(order, None)

    def _fail(self, order: Order, error: Exception) -> None:
        if not order.open:  # another of its pictures failed before
            return
        if not isinstance(error, EclipseError):  # which are the input's fault and may quote it
            self.failures += 1
            log.error("a job failed", exc_info=error)
        self._end(order, error)

    def _end(self, order: Order, error: Exception | None) -> None:
        order.open = 0
        order.waiting.clear()
        order.ready.clear()
        self.seats = [seat for seat in self.seats if seat.order is not order]
        self._book.remove(order)
        order.ticket.finish(error)


def marks(steps: int, partial_images: int) -> dict[int, int]:
    """After which of ``steps`` (from 1) an unfinished picture is shown, evenly spaced: step → number of the partial."""
    at = [round(steps * (number + 1) / (partial_images + 1)) for number in range(partial_images)]
    return {step: number for number, step in enumerate(sorted({step for step in at if 0 < step < steps}))}
