"""A job on its way through the engine, given up as soon as nobody waits for it any more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from starlette.types import Receive

from eclipse.serve.serving import Serving
from eclipse.serve.types import Drawn, Embedded, Job, Ticket

T = TypeVar("T")


class ClientGoneError(Exception):
    """The client left before its answer."""


@contextlib.contextmanager
def ticket_of(serving: Serving, job: Job) -> Iterator[Ticket]:
    """The job's ticket, cancelled on leaving whatever happens: what is unfinished then frees its slots."""
    ticket = serving.engine.submit(job)
    try:
        yield ticket
    finally:
        ticket.cancel()


async def all_drawn(serving: Serving, job: Job) -> list[Drawn]:
    """The job's pictures in their order."""
    with ticket_of(serving, job) as ticket:
        drawn = [event async for event in ticket if isinstance(event, Drawn)]
    return sorted(drawn, key=lambda one: one.index)


async def all_embedded(serving: Serving, job: Job) -> list[Embedded]:
    """The job's embeddings in their order."""
    with ticket_of(serving, job) as ticket:
        embedded = [event async for event in ticket if isinstance(event, Embedded)]
    return sorted(embedded, key=lambda one: one.index)


async def unless_gone(receive: Receive, serving: Serving, work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` gives; when the client goes away before, it is cancelled and :class:`ClientGoneError` raised."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        serving.metrics.gone.inc()
        raise ClientGoneError
    finally:
        for waiting in (task, gone):
            waiting.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
