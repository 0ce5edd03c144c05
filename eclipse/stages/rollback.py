"""Command ``rollback``: the previous champion back in force. It writes to a server, so it is no DVC stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eclipse.config.params import Params
from eclipse.stages.promote import builder, user
from eclipse.stages.variant import name_of


def run(
    params: Params,
    *,
    to: int | None = None,
    variant: str = "eclipse",
    reason: str = "",
    by: str | None = None,
    no_bundle: bool = False,
) -> dict[str, Any]:
    """Exchange champion and previous; running servers switch back, and a Bento of what is in force then is built.

    Args:
        params: all parameters; ``serve.decoder`` ends the registered model's name.
        to: the version that shall be the champion; if it is already, nothing changes, so a repetition is safe.
        variant: eclipse or lambda-eclipse.
        reason: recorded in the audit and in MLflow.
        by: who decides; the name of the user if not given.
        no_bundle: build no Bento.
    """
    from eclipse.promotion.ledger import Wish
    from eclipse.promotion.rollback import rollback
    from eclipse.releases.store import Releases, releases_folder
    from eclipse.tracking.registry import Registry

    name = name_of(variant, params.serve.decoder)
    version = None if to is None else str(to)
    wish = Wish(action="rollback", name=name, variant=variant, by=by or user(), version=version, reason=reason)
    releases = Releases(releases_folder(Path()))
    done = rollback(Registry(), releases, wish, build=None if no_bundle else builder(params))
    again = "already" if done.outcome == "unchanged" else "again"
    print(f"{done.name} version {done.version} is the champion {again} ({done.release})")
    if done.bento:
        print(f"Bento {done.bento}")
    return vars(done)
