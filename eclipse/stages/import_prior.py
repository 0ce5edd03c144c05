"""Command ``import-prior``: a published prior with its CLIP and decoder, ready to be served."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from eclipse.config.params import Params

log = logging.getLogger(__name__)


def run(
    params: Params,
    source: str,
    *,
    revision: str | None = None,
    decoder_revision: str | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Import a published ECLIPSE or λ-ECLIPSE prior: strictly read, with the frozen models that it is meant for.

    The server serves it where nothing was promoted (see docs/checkpoints.md).

    Args:
        params: ``frozen.hub`` names CLIP and decoder where they are not the published ones; ``serve.decoder`` is the
            decoder's name in model ids.
        source: repository on Hugging Face, such as ECLIPSE-Community/Lambda-ECLIPSE-Prior-v1.0, or a local folder.
        revision: its full commit, 40 hexadecimal digits, as its page on Hugging Face shows it; none for a folder.
        decoder_revision: the full commit of its published decoder, needed where none is pinned (Karlo's).
        out: the folder to write; artifacts/imported/VARIANT where it is not given, which is where servers look.
    """
    from eclipse.releases.imported import import_prior

    folder, lineage = import_prior(
        source,
        revision,
        frozen=params.frozen.hub,
        out=out,
        name=params.serve.decoder,
        decoder_revision=decoder_revision,
    )
    log.info("%s: imported as %s", source, folder)
    return lineage
