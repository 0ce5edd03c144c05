"""Which process a flow run is: a tag that tells later whether that process still lives."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from uuid import UUID

import psutil
from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.states import Running

_TAG = "process:"
_CLOCK_SECONDS = 5.0
_PROCESS = re.compile(r"^process:(?P<host>.+)/(?P<pid>\d+)/(?P<started>\d+)$")


@dataclass(frozen=True)
class Process:
    """A process on ``host``; ``started`` (seconds of the epoch) tells it from a later one with the same number."""

    host: str
    pid: int
    started: int

    @classmethod
    def current(cls) -> Process:
        """This one."""
        return cls(socket.gethostname(), os.getpid(), int(psutil.Process().create_time()))

    @property
    def tag(self) -> str:
        """How a flow run names it."""
        return f"{_TAG}{self.host}/{self.pid}/{self.started}"

    @property
    def is_here(self) -> bool:
        """Whether it would be found on this machine."""
        return self.host == socket.gethostname()

    @property
    def lives(self) -> bool:
        """Whether it still runs; a process that ended and was not reaped does not."""
        try:
            found = psutil.Process(self.pid)
            # The time of creation is counted from the boot, and moves with corrections of the clock.
            same = abs(found.create_time() - self.started) < _CLOCK_SECONDS
            return same and found.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def process_of(tags: Iterable[str]) -> Process | None:
    """The process that the tags of a flow run name, if they name one."""
    for tag in tags:
        found = _PROCESS.match(tag)
        if found:
            return Process(found["host"], int(found["pid"]), int(found["started"]))
    return None


def announce() -> None:
    """Tag the present flow run with this process, in place of the one of an earlier attempt."""
    _retag(lambda tag: not tag.startswith(_TAG), [Process.current().tag])


def add_tags(tags: Iterable[str]) -> None:
    """Tag the present flow run; a tag ``key:value`` replaces one with that key."""
    keys = {tag.partition(":")[0] for tag in tags}
    _retag(lambda tag: tag.partition(":")[0] not in keys, tags)


def go_on() -> None:
    """Put the present flow run back to Running after a pause that nobody ended.

    The server would refuse its final state otherwise, and call it Failed, unless it had called it so before.
    """
    found = runtime.flow_run.get_id()
    if found is not None:
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(UUID(found), Running(), force=True)


def _retag(keep: Callable[[str], bool], new: Iterable[str]) -> None:
    found = runtime.flow_run.get_id()
    if found is None:
        return
    run = UUID(found)
    with get_client(sync_client=True) as client:
        present = client.read_flow_run(run).tags
        client.update_flow_run(run, tags=[*filter(keep, present), *new])
