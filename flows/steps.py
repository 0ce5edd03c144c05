"""How a task runs a command in a workspace, and when Prefect tries a task again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from prefect import get_run_logger
from prefect.cache_policies import NO_CACHE

from flows.commands import stream
from flows.errors import worth_another_try
from flows.versions import ledger
from flows.workspace import Workspace

RETRIES: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": [5, 30, 120],
    "retry_jitter_factor": 0.3,
    "retry_condition_fn": worth_another_try,
    # What is done already is DVC's and the stages' own knowledge; a second record of it could only be wrong.
    "cache_policy": NO_CACHE,
}


def run_in(workspace: Workspace, words: Sequence[str], say: Callable[[str], None] | None = None) -> list[str]:
    """Run a command in the workspace, its output in the run's log (or given to ``say``); returns its last lines."""
    return stream(
        words,
        cwd=workspace.folder,
        say=say or get_run_logger().info,
        env=ledger(workspace.checkout),
        hold=workspace.lock,
    )
