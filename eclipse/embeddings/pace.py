"""One line, early in a long embedding, about how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable

_FEWEST = 4  # shards of work that are worth a line


class Pace:
    """Watches the shards of a run that has ``shards`` with ``records`` before it; ``say`` gets the line.

    The second shard alone is measured: the first holds what is done once, such as compiling.
    """

    def __init__(
        self,
        shards: int,
        records: int,
        say: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._left, self._seen, self._say, self._clock = records, 0, say, clock
        self._wanted = shards >= _FEWEST
        self._last = clock()

    def shard(self, count: int) -> None:
        """A shard of ``count`` records has been encoded."""
        self._seen += 1
        self._left -= count
        before, self._last = self._last, self._clock()
        if self._wanted and self._seen == 2:
            rate = count / max(self._last - before, 1e-9)
            self._say(
                f"embed: {rate:,.1f} records/s in the second shard; {self._left:,} more take about "
                f"{spelt(self._left / rate)}"
            )


def spelt(seconds: float) -> str:
    """A duration in the unit that a person would take."""
    for size, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
