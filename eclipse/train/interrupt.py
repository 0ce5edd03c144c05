"""SIGTERM as a polite request: finish the step, write a checkpoint, and leave with a code that means "run me again"."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EX_TEMPFAIL = 75
"""Exit code of a training that was asked to stop and can be continued by the same command (sysexits.h)."""


class StopRequest:
    """Whether somebody asked this process to stop."""

    def __init__(self) -> None:
        self.made = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.made = True
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def stop_on_sigterm() -> Iterator[StopRequest]:
    """Watch for SIGTERM while the block runs; a second one ends the process at once.

    Signals can only be watched from the main thread; elsewhere the request is simply never made.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = signal.signal(signal.SIGTERM, request._on_signal)
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, before)
