"""What every pod does around its work: bring the inputs, run a stage's command, send the result."""

from __future__ import annotations

import argparse
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.jobs import run_cache
from components.jobs.checkout import make_checkout
from components.jobs.errors import FailedError, JobError, StoppedError
from components.jobs.process import Runner
from eclipse.train.interrupt import EX_TEMPFAIL


@dataclass(frozen=True)
class Assignment:
    """One stage of dvc.yaml to run, and what its inputs must be."""

    stage: str
    key: str | None = None
    commit: str | None = None

    @property
    def place(self) -> str:
        """A folder name of its own for these inputs."""
        return f"{self.stage.replace('@', '-')}-{(self.key or 'latest')[:10]}"


@dataclass(frozen=True)
class Prepared:
    """A checkout with all inputs, and the words of the stage's command after ``python``."""

    folder: Path
    words: list[str]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of an :class:`Assignment` that all pods take."""
    parser.add_argument("--key", help="what code, data and parameters must come to; others end with status 2")
    parser.add_argument("--commit", help="what to check out of ECLIPSE_REPOSITORY; default: its HEAD")


def prepare(runner: Runner, work: Assignment, who: str) -> Prepared | None:
    """The checkout of the pod that is called ``who`` in the job; None if the run cache has the result."""
    folder = make_checkout(f"{work.place}-{who}", work.commit)
    with run_cache.opened(folder) as repo:
        run_cache.pull_inputs(repo, work.stage)
        run_cache.check_key(repo, work.stage, work.key)
        if runner.stopping:
            raise StoppedError
        known = run_cache.restore(repo, [work.stage])
        words = shlex.split(run_cache.stage_of(repo, work.stage).cmd)
    if known:
        print(f"{work.stage}: its result is in the run cache; nothing to do")
        leave(folder)
        return None
    if words[:2] != ["python", "-m"]:
        raise JobError(
            f"dvc.yaml: {work.stage}: its command must begin with `python -m`, for jobs start Python modules"
        )
    return Prepared(folder, words[1:])


def run(runner: Runner, work: Assignment, words: Sequence[str], folder: Path) -> None:
    """Run the stage's command.

    :class:`StoppedError` if it stopped on request, :class:`JobError` if it refused its input.
    """
    status = runner.run(words, cwd=folder)
    if status == EX_TEMPFAIL or (status and runner.stopping):
        raise StoppedError
    if status == 2:
        raise JobError(f"{work.stage}: refused its input; the lines above say why")
    if status:
        raise FailedError(f"{work.stage}: ended with status {status}; the lines above say why")


def leave(folder: Path) -> None:
    """Remove the checkout of a pod that is done; what it made lies in the remote, checkpoints elsewhere."""
    shutil.rmtree(folder, ignore_errors=True)


def send(work: Assignment, folder: Path) -> None:
    """Send the result to the remote, with its entry in the run cache."""
    with run_cache.opened(folder) as repo:
        run_cache.publish(repo, [work.stage])
    print(f"{work.stage}: sent to the DVC remote, with its entry in the run cache", flush=True)
