"""A Prefect server's, a worker's and a training's processes: start, wait, find, end and kill."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil


def wait_for(found: Callable[[], object], seconds: float, what: str) -> object:
    """Poll until ``found`` says something true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"no {what} in {seconds:.0f} s")


@dataclass
class Server:
    """A server, and how commands reach it."""

    url: str
    env: dict[str, str]
    process: subprocess.Popen


def python(server: Server, cwd: Path, *words: str, timeout: float = 240) -> subprocess.CompletedProcess:
    """Run Python with ``words`` against the server."""
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, env=server.env, capture_output=True, text=True, timeout=timeout
    )


def end(process: subprocess.Popen) -> None:
    """End a process with all that it started: SIGTERM, and SIGKILL for what outlives it."""
    try:
        tree = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    except psutil.NoSuchProcess:
        return
    for one in tree:
        _signal(one, signal.SIGTERM)
    _, left = psutil.wait_procs(tree, timeout=5)
    for one in left:
        _signal(one, signal.SIGKILL)
    process.wait(timeout=10)


def kill(process: subprocess.Popen) -> None:
    """SIGKILL for a process and all that it started but for guards, whose task it is to outlive their starters."""
    for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        if not below_a_guard(one):
            _signal(one, signal.SIGKILL)
    process.wait(timeout=10)


def below_a_guard(process: psutil.Process) -> bool:
    try:
        return any("guard.py" in " ".join(one.cmdline()) for one in [process, *process.parents()])
    except psutil.NoSuchProcess:
        return False


def trainings(root: Path) -> list[psutil.Process]:
    """Processes that train below ``root``."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if "eclipse" in words and "train" in words and Path(process.cwd()).is_relative_to(root):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False
