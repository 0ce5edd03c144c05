"""The jobs that were taken on, shared by those who submit and the compute thread, and the limit on them."""

from __future__ import annotations

import math
import threading
import time

from eclipse.serve.engine.order import Order
from eclipse.serve.types import GivenUpError, RefusedError

_MEMORY = 20.0  # seconds of work after which a measurement counts half


class Speed:
    """Cost done per second of work, of the last half minute or so of it."""

    def __init__(self) -> None:
        self._work = self._seconds = 0.0

    def add(self, work: float, seconds: float) -> None:
        """``work`` was done in ``seconds``."""
        kept = math.exp2(-seconds / _MEMORY)
        self._work, self._seconds = kept * self._work + work, kept * self._seconds + seconds

    @property
    def value(self) -> float:
        """Cost a second; 0 where nothing was measured."""
        return self._work / self._seconds if self._seconds else 0.0


class Book:
    """Open orders, longest unserved first."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._orders: list[Order] = []
        self._changed = threading.Condition()
        self._stop: float | None = None
        self.speed = Speed()

    def add(self, order: Order) -> None:
        """Take ``order`` on.

        :class:`RefusedError` where what is pending leaves no room for its cost, or no time to do it before it would be
        given up; :class:`GivenUpError` when stopping.
        """
        with self._changed:
            if self._stop is not None:
                raise GivenUpError("the server is stopping", stopping=True)
            pending, speed = self._pending(), self.speed.value
            # With nothing before it a job is tried, whatever the speed was: only that can show a better one.
            late = bool(pending and speed) and (pending + order.left) / speed > order.job.seconds
            if late or pending + order.left > self._limit:
                raise RefusedError(max(1.0, pending / speed) if speed else 1.0)
            self._orders.append(order)
            self._changed.notify_all()

    def orders(self) -> list[Order]:
        """All open ones, longest unserved first."""
        with self._changed:
            return list(self._orders)

    def served(self, order: Order) -> None:
        """``order`` got a slot: it is the others' turn."""
        with self._changed:
            self._orders.remove(order)
            self._orders.append(order)

    def remove(self, order: Order) -> None:
        """``order`` is done or given up."""
        with self._changed:
            if order in self._orders:
                self._orders.remove(order)
            self._changed.notify_all()

    def pending(self) -> float:
        """Cost of all that is not done."""
        with self._changed:
            return self._pending()

    def wait(self, idle_work: bool) -> bool:
        """Block until there is something to do, at once with ``idle_work``; False when it is time to stop."""
        with self._changed:
            while not self._orders and self._stop is None and not idle_work:
                self._changed.wait()
            return self._stop is None or (bool(self._orders) and time.monotonic() < self._stop)

    def wake(self) -> None:
        """Something that :meth:`wait` waits for may have changed."""
        with self._changed:
            self._changed.notify_all()

    def stop(self, seconds: float) -> None:
        """Take nothing on any more; :meth:`wait` gives what is there ``seconds``."""
        with self._changed:
            self._stop = time.monotonic() + seconds
            self._changed.notify_all()

    @property
    def stopping(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stop is not None

    def _pending(self) -> float:
        return sum(order.left for order in self._orders)
