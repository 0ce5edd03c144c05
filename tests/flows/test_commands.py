"""Commands: streamed, classified, and ended with the flow."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest
from prefect.states import exception_to_failed_state

from flows.commands import environment, stream
from flows.errors import BadInputError, CommandError, TransientError, classify, worth_another_try


def _python(code: str, **more) -> list[str]:
    lines: list[str] = []
    stream([sys.executable, "-c", code], cwd=Path(), say=lines.append, **more)
    return lines


def test_output_is_streamed_line_by_line():
    assert _python("import sys; print('one', flush=True); print(); print('two', file=sys.stderr)") == ["one", "two"]


def test_commands_find_this_python_and_no_telemetry():
    env = environment({"MORE": "1"})
    assert env["PATH"].startswith(str(Path(sys.executable).parent))
    assert (env["DO_NOT_TRACK"], env["MORE"]) == ("true", "1")


def test_a_lock_is_held_until_the_command_ends(tmp_path):
    import fcntl

    path = tmp_path / "lock"
    with path.open("a") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        code = "import time; print('here', flush=True); time.sleep(2)"
        lines: list[str] = []
        words = [sys.executable, "-c", code]
        thread = threading.Thread(
            target=stream, args=[words], kwargs={"cwd": Path(), "say": lines.append, "hold": first.fileno()}
        )
        thread.start()
        while not lines:
            pass
    with path.open("a") as second:
        with pytest.raises(BlockingIOError):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        thread.join()
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize(
    ("status", "line", "kind"),
    [
        (2, "error: params.yaml: train.steps: Input should be a valid integer (got 'x')", BadInputError),
        (
            255,
            "ERROR: failed to reproduce 'train': failed to run: python -m eclipse train, exited with 2",
            BadInputError,
        ),
        (
            255,
            "ERROR: failed to reproduce 'train': failed to run: python -m eclipse train, exited with 75",
            TransientError,
        ),
        (2, "error: http://x: no MLflow server answers (Connection refused); start it", TransientError),
        (255, "ERROR: unexpected error - Could not connect: Connection reset by peer", TransientError),
        (1, "ERROR: failed to push data: HTTP status 503", TransientError),
        (
            255,
            "ERROR: failed to reproduce 'train': failed to run: python -m eclipse train, exited with 1",
            CommandError,
        ),
        (1, "trained 503 steps", CommandError),
    ],
)
def test_failures_are_sorted(status, line, kind):
    error = classify("python -m x", status, ["some output", line])
    assert type(error) is kind
    assert "exit status" in str(error) and line.strip() in str(error)


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (TransientError("x"), True),
        (ConnectionResetError(), True),
        (BadInputError("x"), False),
        (CommandError("x"), False),
    ],
)
def test_only_what_is_transient_is_tried_again(error, again):
    import asyncio

    state = asyncio.run(exception_to_failed_state(error))
    assert worth_another_try(None, None, state) is again
