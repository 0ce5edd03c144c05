"""``python -m components.jobs.train --point P --seed S``: the command that a TrainJob carries, on each of its nodes.

It brings the inputs from the DVC remote, runs the stage's own command of dvc.yaml under torchrun, and on the first node
sends the result back through the remote's run cache, so that ``dvc repro`` elsewhere finds it and trains nothing. Exit
status: 0 done, 75 stopped with a checkpoint and to be run again, 2 bad input, 1 anything else.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from components.jobs import pod
from components.jobs.errors import status_of
from components.jobs.process import Runner
from components.jobs.stage import TRAINED, stage_name

NODE_RANK = "PET_NODE_RANK"
"""Environment variable by which Kubeflow Trainer numbers the nodes of a training."""
_TORCHRUN = (sys.executable, "-m", "components.jobs.torchrun")


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; the module says what its exit statuses mean."""
    parser = argparse.ArgumentParser(prog="python -m components.jobs.train")
    parser.add_argument("--point", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--stage", choices=TRAINED, default="train", help="the sweep in dvc.yaml; default: train")
    pod.add_flags(parser)
    args = parser.parse_args(words)
    work = pod.Assignment(stage_name(args.stage, args.point, args.seed), args.key, args.commit)
    with Runner() as runner:
        return status_of(lambda: train(runner, work))


def train(runner: Runner, work: pod.Assignment) -> None:
    """Train one prior, unless the run cache has it."""
    node = int(os.environ.get(NODE_RANK, "0"))
    prepared = pod.prepare(runner, work, f"node-{node}")
    if prepared is None:
        return
    pod.run(runner, work, [*_TORCHRUN, *prepared.words], prepared.folder)
    if node == 0:
        pod.send(work, prepared.folder)
    pod.leave(prepared.folder)


if __name__ == "__main__":
    sys.exit(main())
