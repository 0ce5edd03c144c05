"""Command ``export-prior``: a prior in its authors' layout, or as a pipeline of diffusers, ready to upload."""

from __future__ import annotations

from pathlib import Path

from eclipse.config.params import Params
from eclipse.errors import ConfigError


def run(
    params: Params,
    out: Path,
    *,
    to: str,
    prior: Path = Path("artifacts/selected"),
    frozen: Path = Path("artifacts/frozen"),
) -> None:
    """Write a prior for others, with its model card.

    Args:
        params: all parameters; none is read.
        out: the folder to write.
        to: ``upstream``, which the authors' inference code loads, or ``diffusers``, a KandinskyV22PriorPipeline.
        prior: the prior's folder.
        frozen: the folder of the frozen models with its CLIP; ``upstream`` needs none.
    """
    from eclipse.releases import export

    if to == "upstream":
        export.to_upstream(prior, out)
    elif to == "diffusers":
        export.to_diffusers(prior, frozen, out)
    else:
        raise ConfigError(f"--to {to}: write upstream or diffusers")
