"""A job's events on their way from the compute thread to the asyncio loop that waits for them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from eclipse.serve.types import Drawn, Event, Partial


class JobTicket:
    """The :class:`~eclipse.serve.types.Ticket` of one job. Make it inside the loop that reads it.

    The engine never waits for a reader. What may pile up is bounded by the job itself: unread, a partial picture gives
    way to whatever follows it of the same picture. ``wake`` is called once on :meth:`cancel`.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake = wake
        self._events: deque[Event] = deque()
        self._news = asyncio.Event()
        self._ended = False
        self._error: Exception | None = None
        self.cancelled = False

    def __aiter__(self) -> JobTicket:
        """Itself."""
        return self

    async def __anext__(self) -> Event:
        """The next event; ``StopAsyncIteration`` after the last or after :meth:`cancel`, or what went wrong."""
        while not self._events:
            if self._ended:
                error, self._error = self._error, None
                raise error or StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._events.popleft()

    def cancel(self) -> None:
        """Stop between two steps and free the slots; may be called at any time and from any thread."""
        if self.cancelled:
            return
        self.cancelled = True
        self._wake()
        self._call(self._end, None)

    def deliver(self, event: Event) -> None:
        """Hand ``event`` to the reader, from any thread."""
        self._call(self._put, event)

    def finish(self, error: Exception | None = None) -> None:
        """Nothing follows; ``error`` is raised to the reader after what it has not read yet. From any thread."""
        self._call(self._end, error)

    def _call(self, function: Callable[[Any], None], argument: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, argument)
        except RuntimeError:  # the loop is closed: nobody can read any more
            self.cancelled = True

    def _put(self, event: Event) -> None:
        if self._ended:
            return
        if isinstance(event, (Partial, Drawn)):
            stale = [old for old in self._events if isinstance(old, Partial) and old.index == event.index]
            for old in stale:
                self._events.remove(old)
        self._events.append(event)
        self._news.set()

    def _end(self, error: Exception | None) -> None:
        if self._ended:
            return
        self._ended, self._error = True, error
        if self.cancelled:
            self._events.clear()
        self._news.set()
