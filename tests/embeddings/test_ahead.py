"""Order, bounds, errors and ends of the work beside the encoder."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from eclipse.embeddings.ahead import Behind, Workers, ahead, worker_count
from eclipse.errors import DataError, StoreError


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def test_ahead_keeps_order_and_runs_no_further_than_its_depth():
    made = []

    def numbers():
        for i in range(20):
            made.append(i)
            yield i

    stream = ahead(numbers(), 3)
    assert next(stream) == 0
    until(lambda: len(made) == 4)
    time.sleep(0.05)
    assert len(made) == 4, "one taken and three ahead"
    assert list(stream) == list(range(1, 20))


def test_an_error_comes_after_what_was_there_before_it():
    def broken():
        yield 1
        yield 2
        raise DataError("third")

    stream = ahead(broken(), 8)
    assert [next(stream), next(stream)] == [1, 2]
    with pytest.raises(DataError, match="third"):
        next(stream)


def test_closing_ends_the_thread():
    before = threading.active_count()
    stream = ahead(iter(range(1000)), 2)
    next(stream)
    assert threading.active_count() == before + 1
    stream.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("thread", [False, True])
def test_behind_runs_in_order_and_raises_at_the_end(thread):
    done = []
    with Behind(thread=thread) as behind:
        for i in range(5):
            behind(done.append, i)
    assert done == list(range(5))

    def fail():
        raise StoreError("full")

    def fill():
        with Behind(thread=thread) as behind:
            behind(fail)
            behind(done.append, 9)

    with pytest.raises(StoreError, match="full"):
        fill()
    assert 9 not in done, "what follows a failed write must not be written"


def test_behind_lets_the_running_call_finish_when_the_encoder_fails():
    done = []

    def slow():
        time.sleep(0.1)
        done.append("written")

    def encode():
        with Behind(thread=True) as behind:
            behind(slow)
            raise DataError("a later shard")

    with pytest.raises(DataError):
        encode()
    assert done == ["written"]


def test_number_of_workers(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(32)))
    assert worker_count(None, gpu=False) == 0
    assert worker_count(None, gpu=True) == 16
    assert worker_count(None, gpu=True, processes=8) == 3
    assert worker_count(None, gpu=True, processes=64) == 1
    assert worker_count(0, gpu=True) == 0
    assert worker_count(5, gpu=False) == 5


def refuse():
    raise DataError("record 7: damaged")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("count", [0, 1])
def test_an_error_of_a_worker_is_itself(count):
    with Workers(count) as pool:
        call = pool.submit(refuse)
        with pytest.raises(DataError, match="record 7: damaged"):
            call()


def test_a_killed_worker_is_told_and_nothing_waits():
    with Workers(1) as pool:
        calls = [pool.submit(die), pool.submit(refuse)]
        for call in calls:
            with pytest.raises(StoreError, match=r"was killed.*store\.workers.*goes on"):
                call()
        with pytest.raises(StoreError, match=r"was killed.*store\.workers.*goes on"):
            pool.submit(refuse)


@pytest.mark.slow
def test_workers_end_with_a_parent_that_was_killed():
    code = (
        "import time; from eclipse.embeddings.ahead import Workers\n"
        "import os\n"
        "if __name__ == '__main__':\n"
        "    pool = Workers(1); print(pool.submit(os.getpid)(), flush=True); time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    worker = psutil.Process(int(parent.stdout.readline()))
    assert worker.is_running()
    parent.kill()
    parent.wait()
    until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
