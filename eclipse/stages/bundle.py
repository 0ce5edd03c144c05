"""Command ``bundle``: the Bento of what is in force, and the folder that a container image is built from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eclipse.config.params import Params
from eclipse.errors import DataError, EclipseError


def run(params: Params, *, out: Path | None = None) -> dict[str, Any]:
    """Build the present champions' Bento, if it is not there; promote and rollback did so unless told not to.

    Args:
        params: all parameters; ``serve.decoder`` ends the Bento's name.
        out: new folder for the Bento with a Dockerfile; `docker build` needs nothing else. No container engine is used.
    """
    from eclipse.promotion.journal import is_unfinished
    from eclipse.releases.store import Releases, releases_folder
    from eclipse.serve.bundle import build_bento, containerfile, describe

    if out is not None and out.exists():
        raise DataError(f"{out}: exists already; give another --out")
    releases = Releases(releases_folder(Path()))
    with releases.lock():
        if is_unfinished(releases):
            raise EclipseError(f"{releases.folder}: a move was cut off; run promote or rollback, which finish it")
        tag = build_bento(releases, releases.state(), root=Path(), decoder=params.serve.decoder)
    print(f"Bento {tag}")
    if out is not None:
        print(f"docker build -t {tag} {containerfile(tag, out).parent}")
    return {"bento": tag, **describe(tag)}
