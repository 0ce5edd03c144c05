"""``python -m components.pipeline``: compile the pipeline, run it here, or submit it to a cluster."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.parameters import read_params
from components.record import ROOT
from eclipse.errors import EclipseError

FILE = Path("build/pipeline.yaml")
SPACE = Path("artifacts/pipeline")


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, 1 where the run failed, 2 for an error that the person can mend."""
    args = _parser().parse_args(argv)
    try:
        params = read_params(ROOT, args.params, args.profile, args.set)
        if args.local:
            from components.here import run

            return run(params, args.space)
        file = _compile(params, args.file)
        if not args.submit:
            print(file)
            return 0
        from components.submit import submit

        namespace = params.cluster.namespace
        account = args.service_account
        return int(not submit(file, host=args.host, namespace=namespace, service_account=account, wait=args.wait))
    except (EclipseError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _compile(params: Any, file: Path) -> Path:
    from kfp import compiler

    from components.cluster import Placement
    from components.pipeline import build

    file.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(build(params, Placement(params)), str(file))
    return file


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="components.pipeline", description=__doc__, allow_abbrev=False)
    parser.add_argument("file", nargs="?", type=Path, default=FILE, help=f"the YAML to write (default: {FILE})")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--local", action="store_true", help="run it here: each task a process, no cluster, no Docker")
    where.add_argument("--submit", action="store_true", help="compile it and start a run on a cluster")
    parser.add_argument("--profile", metavar="NAME", help="parameters of conf/profile/NAME.yaml instead of --params")
    parser.add_argument("--params", type=Path, default=ROOT / "params.yaml", help="default: params.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one parameter")
    parser.add_argument("--space", type=Path, default=SPACE, help=f"--local: folder of all results (default: {SPACE})")
    parser.add_argument("--host", default=os.environ.get("KFP_ENDPOINT"), help="--submit: KFP's API ($KFP_ENDPOINT)")
    parser.add_argument("--service-account", metavar="NAME", help="--submit: of the pods (default: the server's)")
    parser.add_argument("--wait", action="store_true", help="--submit: until the run has ended; fails as the run does")
    return parser
