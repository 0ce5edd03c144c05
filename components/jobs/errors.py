"""What the jobs fail with, and the exit status of each: those of ``python -m eclipse``."""

from __future__ import annotations

import sys
from collections.abc import Callable

from eclipse.errors import EclipseError
from eclipse.train.interrupt import EX_TEMPFAIL


class JobError(EclipseError):
    """The input, the checkout or the cluster's set-up is at fault; the message says what helps. Exit status 2."""


class StoppedError(Exception):
    """Asked to stop: the same command goes on where this one was. Exit status 75."""


class FailedError(Exception):
    """A job failed for a reason that its log tells, or the cluster did not answer. Exit status 1."""


def status_of(command: Callable[[], object]) -> int:
    """Run ``command``; its exit status, with what it failed of as one line on the standard error."""
    try:
        command()
    except StoppedError:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return EX_TEMPFAIL
    except (EclipseError, FailedError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2 if isinstance(error, EclipseError) else 1
    return 0
