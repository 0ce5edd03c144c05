"""Where shadow scoring is written down: one JSON line for each comparison of a candidate with its champion."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eclipse.serve.metrics import Metrics

log = logging.getLogger(__name__)


class ShadowLog:
    """Appends to ``file``, which its owner alone can read. A line holds no prompt, only its SHA-256."""

    def __init__(self, file: Path, metrics: Metrics) -> None:
        self._file = file
        self._metrics = metrics
        self._failed = False

    def record(self, line: dict[str, Any]) -> None:
        """Add ``line`` with the time (``at``, UTC); a disk that takes nothing is told once and stops nobody."""
        self._metrics.shadow.observe(1 - line["cosine"])
        text = json.dumps({"at": datetime.now(UTC).isoformat(timespec="milliseconds"), **line}, sort_keys=True)
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            number = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(number, "ab") as file:
                file.write(f"{text}\n".encode())
            self._failed = False
        except OSError as error:
            if not self._failed:
                log.warning("warning: %s: %s; shadow scores are lost", self._file, error.strerror)
            self._failed = True
