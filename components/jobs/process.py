"""Commands one after another; a request to stop reaches the one that runs, and no further one is started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from components.jobs.errors import FailedError, StoppedError

DVC = (sys.executable, "-m", "dvc")
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Runner:
    """Passes SIGTERM on to the command that runs; :attr:`stopping` tells that it, or SIGINT, came.

    As the first process of a container it also has to: the kernel lets such a process ignore what it does not handle.
    """

    def __init__(self) -> None:
        self.stopping = False
        self._child: subprocess.Popen[bytes] | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def run(self, words: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None) -> int:
        """Run ``words`` in ``cwd``, its output with this process's own; its exit status, negative for a signal.

        :class:`StoppedError` where somebody had asked to stop before it began.
        """
        if self.stopping:
            raise StoppedError
        self._child = self._start(words, cwd, env or {})
        try:
            return self._child.wait()
        finally:
            self._child = None

    def check(self, words: Sequence[str], *, cwd: Path) -> None:
        """Like :meth:`run`; :class:`FailedError` for another status than 0, :class:`StoppedError` if it was stopped."""
        status = self.run(words, cwd=cwd)
        if status and self.stopping:
            raise StoppedError
        if status:
            command = " ".join("python" if word == sys.executable else word for word in words)
            raise FailedError(f"{command}: exit status {status}")

    def _start(self, words: Sequence[str], cwd: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        sys.stdout.flush()
        child = subprocess.Popen(words, cwd=cwd, env={**os.environ, "PATH": path, **env})
        if self.stopping:  # the signal came while the command was being started
            child.terminate()
        return child

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        again, self.stopping = self.stopping, True
        # Ctrl-C in a terminal reaches the command anyway, and a second signal would end it before its checkpoint.
        if self._child is not None and number == signal.SIGTERM and not again:
            self._child.terminate()
