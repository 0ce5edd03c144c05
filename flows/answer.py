"""``python -m flows.answer RUN --approve --reviewer NAME``: answer a paused promote-prior run without the UI."""

from __future__ import annotations

import argparse
import sys
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from flows.errors import FlowError
from flows.promote_prior import Answer
from flows.server import check_server


def answer(run: UUID, given: Answer) -> str:
    """Resume the flow run ``run`` with this answer; returns what the server made of it."""
    with get_client(sync_client=True) as client:
        check_server(client)
        done = client.resume_flow_run(run, run_input=given.model_dump(mode="json"))
    return f"{done.status.value}{f': {reason}' if (reason := getattr(done.details, 'reason', None)) else ''}"


def main() -> int:
    """The command. Exit status 2 where the server did not take the answer."""
    parser = argparse.ArgumentParser(prog="python -m flows.answer", description=__doc__)
    parser.add_argument("run", type=UUID, metavar="RUN", help="id of the flow run")
    decision = parser.add_mutually_exclusive_group(required=True)
    decision.add_argument("--approve", action="store_true")
    decision.add_argument("--refuse", action="store_true")
    parser.add_argument("--reviewer", required=True)
    parser.add_argument("--comment", default="")
    parser.add_argument("--override", action="store_true", help="promote although it is below the rule")
    args = parser.parse_args()
    if not args.reviewer.strip():
        parser.error("--reviewer: give your name; it signs the sheet")
    try:
        said = answer(args.run, Answer(**{key: getattr(args, key) for key in Answer.model_fields}))
    except FlowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ObjectNotFound:
        print(f"error: {args.run}: the server knows no such flow run; see `prefect flow-run ls`", file=sys.stderr)
        return 2
    print(said)
    return 0 if said == "ACCEPT" else 2


if __name__ == "__main__":
    sys.exit(main())
