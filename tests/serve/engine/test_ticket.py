"""What a reader gets, however slow it is and whenever it leaves."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
import torch

from eclipse.serve.engine.ticket import JobTicket
from eclipse.serve.types import Drawn, Embedded, GivenUpError, Partial, PriorName

PRIOR = PriorName("m", "eclipse", "h")
IMAGE = np.zeros((1, 1, 3), np.uint8)


def partial(index: int, number: int) -> Partial:
    return Partial(index, number, IMAGE)


def drawn(index: int) -> Drawn:
    return Drawn(index, IMAGE, torch.zeros(1), PRIOR)


async def made(wake=lambda: None) -> JobTicket:
    return JobTicket(wake)


async def rest(ticket: JobTicket) -> list:
    return [event async for event in ticket]


def test_events_of_another_thread_come_in_their_order():
    async def read():
        ticket = await made()
        events = [Embedded(0, torch.zeros(1), PRIOR), partial(0, 0), drawn(0)]

        async def slowly():
            got = []
            async for event in ticket:
                got.append(event)
            return got

        reader = asyncio.ensure_future(slowly())
        for event in events:
            await asyncio.to_thread(ticket.deliver, event)
            await asyncio.sleep(0.01)
        await asyncio.to_thread(ticket.finish)
        assert [type(event) for event in await reader] == [Embedded, Partial, Drawn]
        with pytest.raises(StopAsyncIteration):
            await ticket.__anext__()

    asyncio.run(read())


def test_an_unread_partial_gives_way_and_nothing_else_is_lost():
    async def read():
        ticket = await made()
        for event in (partial(0, 0), partial(1, 0), partial(0, 1), drawn(1), partial(0, 2)):
            ticket.deliver(event)
        ticket.finish()
        await asyncio.sleep(0)
        return [(type(event).__name__, event.index, getattr(event, "number", None)) for event in await rest(ticket)]

    assert asyncio.run(read()) == [("Drawn", 1, None), ("Partial", 0, 2)]


def test_an_error_comes_after_what_was_finished_before_and_once():
    async def read():
        ticket = await made()
        ticket.deliver(drawn(0))
        ticket.finish(GivenUpError("too long"))
        ticket.finish(ValueError("later"))
        assert isinstance(await ticket.__anext__(), Drawn)
        with pytest.raises(GivenUpError, match="too long"):
            await ticket.__anext__()
        with pytest.raises(StopAsyncIteration):
            await ticket.__anext__()

    asyncio.run(read())


def test_cancelling_ends_a_waiting_reader_and_wakes_the_engine_once():
    async def read():
        woken = []
        ticket = await made(lambda: woken.append(threading.current_thread()))
        ticket.deliver(drawn(0))
        await ticket.__anext__()
        reader = asyncio.ensure_future(rest(ticket))
        await asyncio.sleep(0.01)
        for _ in range(2):
            thread = threading.Thread(target=ticket.cancel)
            thread.start()
            await asyncio.to_thread(thread.join)
        assert await asyncio.wait_for(reader, 5) == []
        ticket.deliver(drawn(1))
        await asyncio.sleep(0.01)
        assert await rest(ticket) == []
        assert len(woken) == 1 and ticket.cancelled

    asyncio.run(read())


def test_a_loop_that_is_gone_cancels_the_job():
    ticket = asyncio.run(made())
    ticket.deliver(drawn(0))
    assert ticket.cancelled
