"""Runs a command in a process group of its own and lets nothing of it outlive whoever started this guard.

The starter holds the other end of standard input. When that closes, however the starter ended, or when a SIGTERM
comes, the whole group gets SIGTERM (training then writes a checkpoint), and after a grace period SIGKILL. It is run
as a script and imports only the standard library, so it costs a few hundredths of a second.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

GRACE_SECONDS = 20.0
"""Less than the 30 s after which Prefect kills a cancelled flow run."""
_POLL_SECONDS = 0.2
_PR_SET_CHILD_SUBREAPER = 36


def main(command: list[str]) -> int:
    """Run ``command``. Returns its exit status; 128 + n where a signal n ended it."""
    _adopt_orphans()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    signal.signal(signal.SIGINT, lambda number, _: asked.append(number))
    while child.poll() is None and not asked:
        ended, _, _ = select.select([sys.stdin.fileno()], [], [], _POLL_SECONDS)
        if ended:
            break
    _stop_group(child)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _stop_group(child: subprocess.Popen[bytes]) -> None:
    """End what is left of the group, first politely; a command that ended by itself leaves nothing, as a rule."""
    deadline = time.monotonic() + GRACE_SECONDS
    _signal_group(child.pid, signal.SIGTERM)
    while _group_lives(child) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS / 4)
    _signal_group(child.pid, signal.SIGKILL)
    child.wait()
    while _group_lives(child):
        time.sleep(_POLL_SECONDS / 4)


def _group_lives(child: subprocess.Popen[bytes]) -> bool:
    """Whether a process of the group is left, reaping those that ended: a dead one that nobody reaps still counts."""
    child.poll()
    try:
        while os.waitpid(-child.pid, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        child.poll()
    try:
        os.killpg(child.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _adopt_orphans() -> None:
    """Become the parent of grandchildren whose parent died (Linux), so that they can be waited for."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
