"""No process outlives whoever started it, however that ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from flows import guard

STUBBORN = """
import pathlib, signal, subprocess, sys, time
if sys.argv[2:]:
    subprocess.Popen([sys.executable, __file__, sys.argv[1]])
def asked(*_):
    pathlib.Path(sys.argv[1] + ".asked").write_text("x")
    if not sys.argv[2:]:
        time.sleep(0.5)
        pathlib.Path(sys.argv[1] + ".saved").write_text("x")
    sys.exit(75)
signal.signal(signal.SIGTERM, asked)
pathlib.Path(sys.argv[1] + (".parent" if sys.argv[2:] else ".child")).write_text(str(__import__("os").getpid()))
time.sleep(60)
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "stubborn.py"
    path.write_text(STUBBORN)
    return path


def _start(*words: str) -> subprocess.Popen:
    command = [sys.executable, guard.__file__, *words]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def _pid(path: Path) -> int:
    deadline = time.monotonic() + 20
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return int(path.read_text())


@pytest.mark.parametrize("how", ["stdin closes", "SIGTERM"])
def test_the_whole_group_is_asked_and_waited_for(script, tmp_path, how):
    mark = tmp_path / "mark"
    process = _start(sys.executable, str(script), str(mark), "with-child")
    pids = [_pid(mark.with_suffix(".parent")), _pid(mark.with_suffix(".child"))]
    if how == "SIGTERM":
        process.send_signal(signal.SIGTERM)
    else:
        process.stdin.close()
    assert process.wait(timeout=20) == 75
    assert mark.with_suffix(".saved").exists(), "the grandchild had no time to write its checkpoint"
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


def test_a_starter_that_is_killed_leaves_nothing(script, tmp_path):
    mark = tmp_path / "mark"
    words = [sys.executable, guard.__file__, sys.executable, str(script), str(mark), "with-child"]
    starter = "import subprocess, sys, time; subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", starter, *words])
    pids = [_pid(mark.with_suffix(".parent")), _pid(mark.with_suffix(".child"))]
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(psutil.pid_exists(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert mark.with_suffix(".saved").exists()


def test_what_ignores_sigterm_is_killed(monkeypatch):
    monkeypatch.setattr(guard, "GRACE_SECONDS", 0.3)
    words = [
        sys.executable,
        "-c",
        "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)",
    ]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True)
    child.stdout.readline()
    guard._stop_group(child)
    assert child.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("code", "status"), [("0", 0), ("3", 3), ("__import__('os').kill(__import__('os').getpid(), 9)", 137)]
)
def test_the_exit_status_is_the_commands(code, status):
    process = _start(sys.executable, "-c", f"raise SystemExit({code})")
    assert process.wait(timeout=20) == status
    assert os.getpgid(0)
