"""Command ``sign``: a reviewer's name on a version's review sheet."""

from __future__ import annotations

from typing import Any

from eclipse.config.params import Params
from eclipse.stages.variant import name_of


def run(
    params: Params, *, version: str, reviewer: str, variant: str = "eclipse", picks: str | None = None
) -> dict[str, Any]:
    """Sign the review sheet of a version that you looked at: the tags eclipse.review.by and eclipse.review.signed.

    Args:
        params: ``serve.decoder`` ends the registered name.
        version: the version whose sheet you saw.
        reviewer: your name.
        variant: eclipse or lambda-eclipse.
        picks: the line that a blind sheet shows when you are done; it is uncovered and recorded.
    """
    name = name_of(variant, params.serve.decoder)
    from eclipse.promotion.sign import sign
    from eclipse.tracking.registry import Registry

    registry = Registry()
    found = registry.get(name, version)
    tags = sign(registry, found, reviewer, picks=picks)
    print(f"{found}: signed by {reviewer.strip()}")
    for key, value in tags.items():
        print(f"  {key} = {value}")
    return {"name": found.name, "version": found.version, "tags": tags}
