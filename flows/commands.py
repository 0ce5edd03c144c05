"""Commands as the flows run them: output streamed to the run's log, no process left behind, failures sorted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flows.errors import classify
from flows.guard import GRACE_SECONDS

_GUARD = Path(__file__).with_name("guard.py")
_KEPT_LINES = 40
_QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "BENTOML_DO_NOT_TRACK": "True",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYTHONUNBUFFERED": "1",
    "TQDM_DISABLE": "1",
    "GIT_TERMINAL_PROMPT": "0",
}
DVC = (sys.executable, "-m", "dvc")
ECLIPSE = (sys.executable, "-m", "eclipse")
JOBS = (sys.executable, "-m", "components.jobs")


def stream(
    words: Sequence[str],
    *,
    cwd: Path,
    say: Callable[[str], None],
    env: Mapping[str, str] | None = None,
    hold: int | None = None,
) -> list[str]:
    """Run ``words`` in ``cwd`` and give each line of output to ``say``; returns the last lines.

    However this function is left (an exception, Prefect's signal for a cancelled run, a SIGKILL), the command's whole
    process group is stopped, first by SIGTERM. ``hold`` is a file descriptor, such as a lock's, that stays open until
    the group is gone. A status other than 0 raises what :func:`flows.errors.classify` makes of it.
    """
    kept: deque[str] = deque(maxlen=_KEPT_LINES)
    process = subprocess.Popen(
        [sys.executable, str(_GUARD), *words],
        cwd=cwd,
        env=environment(env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        pass_fds=() if hold is None else (hold,),
    )
    try:
        for line in process.stdout or ():
            if line.strip():
                kept.append(line.rstrip())
                say(kept[-1])
    finally:
        if process.stdin:
            process.stdin.close()
        process.wait(timeout=2 * GRACE_SECONDS)
    if process.returncode:
        raise classify(shown(words), process.returncode, list(kept))
    return list(kept)


def ask(words: Sequence[str], *, cwd: Path) -> str:
    """What a quick command prints; a status other than 0 raises like :func:`stream`."""
    done = subprocess.run(words, cwd=cwd, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise classify(shown(words), done.returncode, (done.stdout + done.stderr).splitlines())
    return done.stdout.strip()


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a command: this one, ``python`` being this interpreter, without telemetry, with ``more``."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**_QUIET, **os.environ, "PATH": path, **(more or {})}


def shown(words: Sequence[str]) -> str:
    """The command as a person would type it."""
    return " ".join("python" if word == sys.executable else word for word in words)
