"""Command ``import-clip``: a published CLIP, in any of its forms, as a folder of this project's."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from eclipse.config.params import Params


def run(
    params: Params,
    source: str,
    *,
    out: Path,
    revision: str | None = None,
    logit_scale: float | None = None,
) -> dict[str, Any]:
    """Write clip/ for a folder of frozen models from an open_clip or transformers CLIP, or a pipeline's two towers.

    Args:
        params: all parameters; none is read.
        source: repository on Hugging Face, such as laion/CLIP-ViT-bigG-14-laion2B-39B-b160k, or a local folder.
        out: the folder to write.
        revision: the repository's full commit, 40 hexadecimal digits; none for a folder.
        logit_scale: 1/τ (100 for OpenAI's and laion's CLIPs) where the files do not hold it: a pipeline's do not.
    """
    from eclipse.models import hub
    from eclipse.models.clip_forms import import_clip

    again = f"python -m eclipse import-clip {shlex.quote(source)} --out {shlex.quote(str(out))} --revision "
    hub.is_local(source, revision, again=again)
    return import_clip(source, revision, out, logit_scale=logit_scale)
