"""Command ``promote``: a reviewed version becomes the champion. It writes to a server, so it is no DVC stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eclipse.config.params import Params
from eclipse.errors import ConfigError
from eclipse.stages.variant import name_of


def run(
    params: Params,
    *,
    version: int | None = None,
    variant: str = "eclipse",
    override: bool = False,
    reason: str = "",
    by: str | None = None,
    no_bundle: bool = False,
    frozen: Path = Path("artifacts/frozen"),
) -> dict[str, Any]:
    """Make a version of eclipse-prior-<variant>-<decoder> the champion; it must be signed and pass the gate's rule.

    Without --version it is the one that the alias champion was moved to in MLflow, else the candidate. Running servers
    switch to it, the champion before it becomes previous, and a Bento is built. docs/promotion.md tells the rest.

    Args:
        params: all parameters; ``promote`` is the rule, ``serve.decoder`` ends the registered model's name.
        version: number of the version.
        variant: eclipse or lambda-eclipse.
        override: promote although the version is below the rule; needs a reason.
        reason: recorded in the audit, and with an override in MLflow.
        by: who decides; the name of the user if not given.
        no_bundle: build no Bento.
        frozen: folder of the frozen models that go with the version.
    """
    from eclipse.promotion.ledger import Wish
    from eclipse.promotion.promote import promote
    from eclipse.releases.store import Releases, releases_folder
    from eclipse.tracking.registry import Registry

    wish = Wish(
        action="promote",
        name=name_of(variant, params.serve.decoder),
        variant=variant,
        by=by or user(),
        version=None if version is None else str(version),
        override=override,
        reason=reason,
    )
    releases = Releases(releases_folder(Path()))
    done = promote(
        Registry(), releases, wish, params=params, frozen=frozen, build=None if no_bundle else builder(params)
    )
    if done.outcome == "unchanged":
        print(f"{done.name} version {done.version} is the champion already ({done.release})")
    else:
        print(f"{done.name} version {done.version} is the champion now ({done.release})")
    if done.bento:
        print(f"Bento {done.bento}")
    return vars(done)


def builder(params: Params) -> Any:
    """What makes the Bento of a release in this repository."""
    from functools import partial

    from eclipse.serve.bundle import build_bento

    return partial(build_bento, root=Path(), decoder=params.serve.decoder)


def user() -> str:
    """Who runs this; :class:`ConfigError` where the system knows no name."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise ConfigError("--by: this machine has no name for you; give yours") from None
