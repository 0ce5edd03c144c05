"""Work that runs beside the encoder: reading ahead of it in a thread, pictures in processes, writing behind it.

Results come in the order of the work whatever runs where, and an error comes where its piece of work would have.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context, parent_process
from queue import SimpleQueue
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from eclipse.errors import StoreError

T = TypeVar("T")
P = ParamSpec("P")
_KILLED = (
    "a process that reads pictures was killed, perhaps for want of memory; lower store.workers and run the same "
    "command again: it goes on after the last finished shard"
)
_MOST = 16  # processes chosen by themselves; a GPU seldom eats more pictures than these decode


def worker_count(asked: int | None, *, gpu: bool, processes: int = 1) -> int:
    """How many processes read pictures: ``asked``, or one for each core but one of this process's share; without a GPU
    none. ``processes`` encoders share the machine."""
    if asked is not None:
        return asked
    if not gpu:
        return 0
    return min(max(len(os.sched_getaffinity(0)) // processes - 1, 1), _MOST)


class Workers:
    """``count`` processes; with 0, work is done where and when its result is asked for. Use as a context manager."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ProcessPoolExecutor | None = None
        if count:
            # Not forked from this process: it may have threads and a GPU open, which do not survive that.
            context = get_context("forkserver")
            context.set_forkserver_preload(["eclipse.embeddings.pictures"])
            self._pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin)

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Callable[[], T]:
        """Start ``function``; what is returned gives its result or raises its error.

        A process that was killed, usually for want of memory, is a :class:`StoreError` and never a wait without end.
        """
        if self._pool is None:
            return partial(function, *args, **kwargs)
        try:
            return partial(_result, self._pool.submit(function, *args, **kwargs))
        except BrokenProcessPool:
            raise StoreError(_KILLED) from None


def ahead(items: Iterator[T], depth: int) -> Generator[T, None, None]:
    """``items``, taken by a thread up to ``depth`` of them before they are asked for; close it to end the thread."""
    room, ready, stop = threading.Semaphore(depth), SimpleQueue[tuple[Any, BaseException | None]](), threading.Event()

    def fill() -> None:
        try:
            while room.acquire() and not stop.is_set():
                ready.put((next(items), None))
        except BaseException as error:  # also the end of the items; raised where it would have been
            ready.put((None, error))

    thread = threading.Thread(target=fill, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            room.release()
            yield item
    finally:
        stop.set()
        room.release()
        thread.join()


class Behind:
    """Calls in a thread, one after another, one running at most; without ``thread`` at once. A context manager.

    A call's error is raised by the next one or at the end. Left by another error, the running call is let finish.
    """

    def __init__(self, *, thread: bool) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="behind") if thread else None
        self._last: Future[Any] | None = None

    def __enter__(self) -> Behind:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._wait()
        finally:
            if self._pool is not None:
                self._pool.shutdown(wait=True)

    def __call__(self, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run ``function`` once the last call has ended."""
        if self._pool is None:
            function(*args, **kwargs)
            return
        self._wait()
        self._last = self._pool.submit(function, *args, **kwargs)

    def _wait(self) -> None:
        last, self._last = self._last, None
        if last is not None:
            last.result()


def _begin() -> None:
    """In a new process: one thread for arithmetic, no Ctrl-C of its own, and an end when the parent is gone."""
    import signal

    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _result(future: Future[T]) -> T:
    try:
        return future.result()
    except BrokenProcessPool:
        raise StoreError(_KILLED) from None
