"""Command ``sign``: a reviewer's name on a version's review sheet."""

from __future__ import annotations

from typing import Any

from eclipse.config.params import Params
from eclipse.errors import ConfigError
from eclipse.stages.review import VARIANTS


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
    if variant not in VARIANTS:
        raise ConfigError(f"--variant {variant}: choose {' or '.join(VARIANTS)}")
    from eclipse.promotion.sign import sign
    from eclipse.tracking.registry import Registry, model_name

    registry = Registry()
    found = registry.get(model_name(variant, params.serve.decoder), version)
    tags = sign(registry, found, reviewer, picks=picks)
    print(f"{found}: signed by {reviewer.strip()}")
    for key, value in tags.items():
        print(f"  {key} = {value}")
    return {"name": found.name, "version": found.version, "tags": tags}
