"""``python -m components.jobs.extract --stage embed --parts N``: the command of an Indexed Job's pods.

Each index embeds its range of the shards. Whoever finishes last puts the parts together, to the bytes of an extraction
in one piece, and sends the store back through the remote's run cache. Exit statuses are those of
:mod:`components.jobs.train`; the stage itself goes on after the last finished shard.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from components.jobs import pod
from components.jobs.checkout import workspaces
from components.jobs.errors import JobError, status_of
from components.jobs.process import Runner

INDEX = "JOB_COMPLETION_INDEX"
"""Environment variable by which Kubernetes numbers the pods of an Indexed Job."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; the module says what its exit statuses mean."""
    parser = argparse.ArgumentParser(prog="python -m components.jobs.extract")
    parser.add_argument("--stage", default="embed", help="its name in dvc.yaml; default: embed")
    parser.add_argument("--parts", type=int, required=True, help="how many pods share the shards")
    pod.add_flags(parser)
    args = parser.parse_args(words)
    work = pod.Assignment(args.stage, args.key, args.commit)
    with Runner() as runner:
        return status_of(lambda: extract(runner, work, int(os.environ.get(INDEX, "0")), args.parts))


def extract(runner: Runner, work: pod.Assignment, index: int, parts: int) -> None:
    """Embed part ``index`` of ``parts``; put them together if it was the last one missing."""
    if not 0 <= index < parts:
        raise JobError(f"{INDEX}={index}: outside 0 … {parts - 1}; the Job's completions must equal --parts")
    prepared = pod.prepare(runner, work, f"part-{index}")
    if prepared is None:
        return
    shared = workspaces() / "parts" / f"{work.place}-of-{parts}"
    shared.mkdir(parents=True, exist_ok=True)
    mine = shared / str(index)
    if not mine.exists():
        own = {"--out": str(mine), "--metrics": f"{mine}.json"}
        words = [*replaced(prepared.words, own), "--part", f"{index}/{parts}"]
        pod.run(runner, work, [sys.executable, *words], prepared.folder)
    with _alone(shared):
        finished = [part for part in range(parts) if (shared / str(part)).is_dir()]
        print(f"{work.stage}: {len(finished)} of {parts} parts are there", flush=True)
        if len(finished) == parts:
            pod.run(runner, work, [sys.executable, *prepared.words, "--parts", str(shared)], prepared.folder)
            pod.send(work, prepared.folder)
            shutil.rmtree(shared)
    pod.leave(prepared.folder)


def replaced(words: Sequence[str], values: dict[str, str]) -> list[str]:
    """``words`` with other values for the flags that ``values`` names; each of them must be there."""
    missing = values.keys() - set(words)
    if missing:
        raise JobError(f"dvc.yaml: the embedding stage has no flag {', '.join(sorted(missing))}")
    flags = ["", *words]
    return [values.get(before, word) for before, word in zip(flags, words, strict=False)]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: two pods that finish at once must not both take themselves for the last."""
    with (folder.with_name(f"{folder.name}.lock")).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main())
