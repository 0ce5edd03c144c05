"""``python -m components.jobs``: submit trainings and extractions to a cluster, or write what would be submitted."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from components.jobs.errors import JobError, status_of
from components.jobs.process import Runner
from components.jobs.stage import TRAINED

_DEFAULT_POLL = 5.0


def main(words: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0 done, 75 stopped (the same again goes on), 2 bad input, 1 a job failed."""
    args = _parser().parse_args(words)
    with Runner() as runner:
        return status_of(lambda: args.run(args, runner))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m components.jobs", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    submit = commands.add_parser("submit", help="run stages as jobs, watch them, bring their results back")
    submit.add_argument(
        "stages",
        nargs="*",
        metavar="STAGE",
        help=f"train, train-subjects, embed, embed-subjects or one point "
        f"(train@eclipse-0.2-0); default: {' '.join(TRAINED)}",
    )
    submit.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="cluster.KEY=VALUE")
    submit.add_argument("--dry-run", action="store_true", help="print the jobs; nothing else happens")
    submit.add_argument("--out", type=Path, metavar="DIR", help="write the jobs to files in DIR; nothing else happens")
    submit.add_argument("--poll", type=float, default=_DEFAULT_POLL, metavar="SECONDS", help="default: 5")
    submit.set_defaults(run=_submit)
    push = commands.add_parser("push", help="send stages' results and run cache entries to the DVC remote, whole")
    push.add_argument("stages", nargs="*", metavar="STAGE", help="default: every stage that is up to date")
    push.set_defaults(run=_push)
    return parser


def _submit(args: argparse.Namespace, runner: Runner) -> None:
    from components.jobs.submit import Request, submit, write_manifests

    if args.poll <= 0:
        raise JobError("--poll: give a number of seconds above 0")
    request = Request(Path.cwd(), tuple(args.stages or TRAINED), tuple(args.set), args.poll)
    if args.out is None and not args.dry_run:
        submit(request, runner, _say)
        return
    texts = write_manifests(request, args.out)
    print("---\n".join(texts) if args.out is None else f"{len(texts)} jobs in {args.out}")


def _push(args: argparse.Namespace, runner: Runner) -> None:
    from components.jobs import run_cache

    with run_cache.opened(Path.cwd()) as repo:
        sent = run_cache.push(repo, args.stages or run_cache.finished(repo))
    print(f"{len(sent)} results in the DVC remote, each with its entry in the run cache")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
