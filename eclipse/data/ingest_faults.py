"""What happens at a damaged record: stop with its name, or count it where the person asked for tolerance."""

from __future__ import annotations

from collections import Counter

from eclipse.errors import DataError


class Dropped:
    """Counts by reason of what did not get in."""

    def __init__(self, *, tolerate: bool) -> None:
        self._tolerate = tolerate
        self._counts: Counter[str] = Counter()

    def fault(self, reason: str, message: str) -> None:
        """A record is damaged: raise :class:`DataError` with ``message``, or count it under ``reason``."""
        if not self._tolerate:
            raise DataError(f"{message} (data.tolerate=true would skip and count it)")
        self._counts[reason] += 1

    def leave_out(self, reason: str) -> None:
        """A sound record is not wanted: always counted, never an error."""
        self._counts[reason] += 1

    def counts(self) -> dict[str, int]:
        """Reason → number of records, in alphabetical order."""
        return dict(sorted(self._counts.items()))
