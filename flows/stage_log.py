"""What ``dvc repro`` prints, read as it comes: which stages ran, for how long, and which were reused."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

_EVENTS = (
    (re.compile(r"^Running stage '(?P<stage>[^']+)'"), "ran"),
    (re.compile(r"^Stage '(?P<stage>[^']+)' didn't change, skipping"), "reused: nothing changed"),
    (re.compile(r"^Stage '(?P<stage>[^']+)' is cached - skipping run"), "reused: run cache"),
    (re.compile(r"failed to reproduce '(?P<stage>[^']+)'"), "failed"),
)


@dataclass
class StageRow:
    """One stage of a run: what became of it, and for how many seconds it ran (0 where it was reused)."""

    stage: str
    outcome: str
    seconds: float = 0.0


class StageLog:
    """Collects :class:`StageRow` from the lines of ``dvc repro``; ``changed`` is called after each stage event."""

    def __init__(self, changed: Callable[[StageLog], None] | None = None) -> None:
        self.rows: dict[str, StageRow] = {}
        self._changed = changed
        self._running: tuple[StageRow, float] | None = None

    def feed(self, line: str, at: float | None = None) -> None:
        """Read one line that was printed ``at`` (seconds of a monotonic clock; by default now)."""
        now = time.monotonic() if at is None else at
        for pattern, outcome in _EVENTS:
            found = pattern.search(line.strip())
            if found:
                self._stage(found["stage"].removeprefix("dvc.yaml:"), outcome, now)
                return

    def close(self, at: float | None = None) -> None:
        """The command ended; so did the stage that ran last."""
        self._end_running(time.monotonic() if at is None else at)

    @property
    def ran(self) -> list[str]:
        """Stages whose command was run."""
        return [row.stage for row in self.rows.values() if not row.outcome.startswith("reused")]

    @property
    def reused(self) -> list[str]:
        """Stages that did not run."""
        return [row.stage for row in self.rows.values() if row.outcome.startswith("reused")]

    def table(self) -> list[dict[str, str]]:
        """Rows for a table: stage, outcome, seconds."""
        return [
            {"stage": row.stage, "outcome": row.outcome, "seconds": f"{row.seconds:.1f}"} for row in self.rows.values()
        ]

    def _stage(self, name: str, outcome: str, now: float) -> None:
        self._end_running(now)
        row = self.rows.setdefault(name, StageRow(name, outcome))
        row.outcome = outcome
        if outcome == "ran":
            self._running = (row, now)
        if self._changed:
            self._changed(self)

    def _end_running(self, now: float) -> None:
        if self._running:
            row, since = self._running
            row.seconds = now - since
            self._running = None
