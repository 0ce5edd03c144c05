"""How much is taken on, and what is told to those who come too many."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from made_jobs import job

from eclipse.models.decoder import KandinskyV22Decoder
from eclipse.serve.engine.book import Book, Speed
from eclipse.serve.engine.order import Order, cost, picture_cost
from eclipse.serve.engine.ticket import JobTicket
from eclipse.serve.types import GivenUpError, Job, Prompt, RefusedError, Wanted


class _Decoder(KandinskyV22Decoder):
    """One of 64 pixels that nobody draws with."""

    def __init__(self):
        self.image_size = 64


DECODER = _Decoder()


def order(asked: Job) -> Order:
    async def make():
        return Order(asked, JobTicket(lambda: None), None, picture_cost(asked, DECODER), time.monotonic())

    return asyncio.run(make())


def test_cost_is_pictures_times_steps_times_area():
    assert cost(job(1, 2, steps=15), DECODER) == 30
    assert cost(job(1, steps=10, height=128, width=64), DECODER) == 20
    assert cost(job(1, steps=10, height=32, width=32), DECODER) == 2.5
    assert cost(Job("m", (Wanted(Prompt("a"), 1),) * 3, None), DECODER) == 3


def test_what_does_not_fit_is_refused_with_the_time_that_the_rest_takes():
    book = Book(100)
    book.speed.add(20, 2)
    first = order(job(1, 2, 3, steps=30))
    book.add(first)
    with pytest.raises(RefusedError) as refused:
        book.add(order(job(1, steps=11)))
    assert refused.value.retry_after == pytest.approx(9)
    book.add(order(job(1, steps=10)))
    first.pay(60)
    assert book.pending() == 40
    book.add(order(job(1, steps=60)))
    book.remove(first)
    assert book.pending() == 70


def test_what_could_not_be_done_in_its_time_is_refused_unless_nothing_is_before_it():
    book = Book(1000)
    book.speed.add(2, 1)
    book.add(order(job(1, steps=30, seconds=10.0)))
    with pytest.raises(RefusedError) as refused:
        book.add(order(job(1, steps=30, seconds=20.0)))
    assert refused.value.retry_after == 15
    book.add(order(job(1, steps=30, seconds=30.0)))


def test_retry_is_never_sooner_than_a_second_and_an_idle_server_refuses_nothing_that_fits():
    book = Book(10)
    book.add(order(job(1, steps=10)))
    with pytest.raises(RefusedError) as refused:
        book.add(order(job(1, steps=1)))
    assert refused.value.retry_after == 1


def test_speed_follows_a_change_within_a_minute_of_work():
    speed = Speed()
    for _ in range(100):
        speed.add(10, 1)
    assert speed.value == pytest.approx(10)
    for _ in range(60):
        speed.add(2, 1)
    assert 2 < speed.value < 3.1


def test_stopping_takes_nothing_on_and_waits_for_what_is_open():
    book = Book(100)
    first = order(job(1))
    book.add(first)
    book.stop(30)
    with pytest.raises(GivenUpError) as refused:
        book.add(order(job(1)))
    assert refused.value.stopping
    assert book.wait(False)
    book.remove(first)
    assert not book.wait(False)


def test_stopping_gives_up_after_its_time():
    book = Book(100)
    book.add(order(job(1)))
    book.stop(0.05)
    assert book.wait(False)
    time.sleep(0.06)
    assert not book.wait(False)


def test_a_waiting_thread_wakes_for_an_order():
    book, woken = Book(100), threading.Event()
    thread = threading.Thread(target=lambda: book.wait(False) and woken.set())
    thread.start()
    assert not woken.wait(0.05)
    book.add(order(job(1)))
    assert woken.wait(5)
    thread.join()


def test_who_was_served_stands_behind_the_others():
    book = Book(100)
    a, b = order(job(1)), order(job(2))
    book.add(a)
    book.add(b)
    book.served(a)
    assert book.orders() == [b, a]
