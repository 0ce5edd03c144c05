"""What a flow fails with, sorted by what helps: another try, another input, or a look at the output."""

from __future__ import annotations

import re
from typing import Any

_TRANSIENT = re.compile(
    r"timed?[ -]?out|connection (?:refused|reset|aborted|error)|cannot connect|temporary failure|name or service not "
    r"known|network is unreachable|remote end closed|no MLflow server answers|service unavailable|slow ?down|"
    r"database is locked|(?:http|status|error)\D{0,12}\b(?:429|50[234])\b|exited with 75",
    re.IGNORECASE,
)


class FlowError(Exception):
    """Base of what the flows raise; the message says in one line what helps."""


class BadInputError(FlowError):
    """The input is at fault: the same run would fail again."""


class TransientError(FlowError):
    """A network, a server or a stopped machine is at fault: another try may succeed."""


class CommandError(FlowError):
    """A command failed for a reason that only its output tells."""


def classify(command: str, status: int, lines: list[str]) -> FlowError:
    """The error for ``command`` that ended with ``status`` after printing ``lines`` (its last ones).

    Exit status 2 is how ``python -m eclipse`` says that a person can mend it, also below ``dvc repro``; 75 is a
    training that was asked to stop, which the same command continues.
    """
    told = [line for line in lines if re.match(r"\s*(?:error|fatal)\b", line, re.IGNORECASE)] or lines[-1:]
    text = "; ".join(line.strip() for line in told[-3:])
    message = f"{command}: exit status {status}: {text}"
    if _TRANSIENT.search("\n".join(told)) or status == 75:
        return TransientError(message)
    if status == 2 or "exited with 2" in text:
        return BadInputError(message)
    return CommandError(message)


def worth_another_try(task: Any, run: Any, state: Any) -> bool:
    """Prefect's ``retry_condition_fn``: only what is transient, and what no one foresaw of the network."""
    try:
        state.result()
    except (TransientError, ConnectionError, TimeoutError):
        return True
    except BaseException:
        return False
    return False
