"""``python -m components.jobs.torchrun …``: torchrun, whose exit status is that of the training.

torchrun itself ends with 1 whatever its processes end with; Kubernetes has to tell "stopped, run me again" (75) and
"bad input, never run me again" (2) from a crash. Nodes and processes come from the variables PET_* that Kubeflow
Trainer sets.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from eclipse.train.interrupt import EX_TEMPFAIL


def main(words: Sequence[str]) -> int:
    """Run torchrun with the arguments ``words``. Returns 0, or what :func:`status_of` makes of its processes' ends."""
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    try:
        run(parse_args(list(words)))
    except ChildFailedError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return status_of(failure.exitcode for failure in error.failures.values())
    except SignalException:
        return EX_TEMPFAIL
    return 0


def status_of(codes: Iterable[int]) -> int:
    """The status of a training whose processes ended with ``codes``.

    One that stopped politely tells of all: the others then end by a signal or a lost connection. So does bad input,
    unless somebody asked to stop.
    """
    found = set(codes)
    return next((code for code in (EX_TEMPFAIL, 2) if code in found), 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
