"""The releases as they would be if the candidates were promoted: a folder that a canary's server watches.

    python candidate.py --releases /srv/releases --view /view

Priors and frozen models are the same files, by links; only ``state.json`` is another. A model without a candidate keeps
its champion, so that a canary always has something to serve. Looks again every ``--every`` seconds; never writes to the
releases.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path
from typing import Any

# Not eclipse.releases: it brings torch, for a file of a few lines. The tests compare with what a server reads.
from eclipse.errors import EclipseError
from eclipse.files import read_json, write_json

STATE = "state.json"

log = logging.getLogger("canary")


def as_promoted(state: dict[str, Any]) -> dict[str, Any]:
    """``state`` with each candidate as champion of its model, put in force with the frozen models of now."""
    models = {name: _promoted(model, state["frozen"]) for name, model in state["models"].items()}
    return {**state, "models": models}


def _promoted(model: dict[str, Any], frozen: str) -> dict[str, Any]:
    candidate = model["candidate"]
    champion = {**candidate, "frozen": frozen} if candidate else model["champion"]
    return {**model, "champion": champion, "candidate": None, "previous": None}


def served(state: dict[str, Any]) -> list[str]:
    """Name and version of each champion."""
    models = state["models"].items()
    return [f"{name} version {model['champion']['version']}" for name, model in models if model["champion"]]


def link(releases: Path, view: Path) -> None:
    """Make ``view`` a folder of releases whose files are those of ``releases``."""
    for name in ("priors", "frozen"):
        place = view / name
        if not place.is_symlink():
            place.symlink_to(releases / name, target_is_directory=True)


def follow(releases: Path, view: Path) -> bool:
    """Bring the view up to date; whether that changed it.

    Before the first promotion there are no frozen models to serve with, and so no view. A state that cannot be read
    leaves the view as it is.
    """
    path = releases / STATE
    if not path.is_file():
        return False
    try:
        state = as_promoted(read_json(path))
        champions = served(state)
    except (EclipseError, AttributeError, KeyError, TypeError) as error:
        log.error("the canary stays as it is: %s: %s", path, error)
        return False
    written = view / STATE
    if not (champions and state["frozen"]) or (written.is_file() and read_json(written) == state):
        return False
    write_json(written, state)
    log.info("the canary serves %s", ", ".join(champions))
    return True


def main() -> None:
    """Follow the releases until the pod ends."""
    parser = argparse.ArgumentParser(prog="candidate.py", description=__doc__.splitlines()[0])
    parser.add_argument("--releases", type=Path, required=True)
    parser.add_argument("--view", type=Path, required=True)
    parser.add_argument("--every", type=float, default=2.0, help="seconds; default: 2")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    link(args.releases, args.view)
    while True:
        follow(args.releases, args.view)
        time.sleep(args.every)


if __name__ == "__main__":
    main()
