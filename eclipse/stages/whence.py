"""Command ``whence``: where a picture of the service comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eclipse.config.params import Params
from eclipse.errors import DataError


def run(params: Params, image: Path, *, public_key: Path | None = None, json: bool = False) -> dict[str, Any]:
    """Print the chain behind a PNG of the service: request, models, training, data, commit, and what is still here.

    ``public_key`` (PEM) is whose signature the picture has to have; without it the signature is checked against
    ECLIPSE_SIGNING_KEY, if that is set. ``json`` prints JSON with all hashes in full. A picture that carries no
    manifest, was changed, or whose signature or C2PA credentials are wrong is an error.
    """
    content = image.read_bytes()
    from eclipse.serve.provenance.chain import trace
    from eclipse.serve.provenance.checkout import Checkout
    from eclipse.serve.provenance.keys import load_public_key
    from eclipse.serve.provenance.told import tell, tell_json

    chain = trace(content, str(image), Checkout(), public_key=load_public_key(public_key) if public_key else None)
    print(tell_json(chain) if json else tell(chain, str(image)))
    if chain.faults:
        raise DataError(f"{image}: {'; '.join(chain.faults)}")
    return chain.to_json()
