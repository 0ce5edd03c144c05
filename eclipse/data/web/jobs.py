"""Work divided among processes that end when the one that began them does."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

from tqdm import tqdm

Job = TypeVar("Job")


def each(work: Callable[[Job], None], jobs: Sequence[Job], workers: int | None, what: str) -> None:
    """Call ``work``, a function of a module, with each of ``jobs`` in ``workers`` processes; None is one a core.

    The first error is raised here, after what had begun is finished.
    """
    count = min(workers or os.cpu_count() or 1, len(jobs))
    with tqdm(total=len(jobs), desc=what, unit=" shards", mininterval=1.0) as bar:
        for _ in _here(work, jobs) if count <= 1 else _there(work, jobs, count):
            bar.update()


def _here(work: Callable[[Job], None], jobs: Sequence[Job]) -> Iterator[None]:
    for job in jobs:
        work(job)
        yield


def _there(work: Callable[[Job], None], jobs: Sequence[Job], count: int) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_end_with_parent) as pool:
        waiting = [pool.submit(work, job) for job in jobs]
        try:
            for done in as_completed(waiting):
                done.result()
                yield
        finally:
            for future in waiting:
                future.cancel()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
