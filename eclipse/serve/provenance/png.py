"""Pictures as PNG files with their manifest, its signature and C2PA credentials, and reading all of it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eclipse.errors import DataError
from eclipse.serve.provenance.canonical import canonical, parse_manifest, pixels_hash
from eclipse.serve.provenance.schema import Manifest
from eclipse.serve.provenance.signing import Signer
from eclipse.serve.provenance.text_png import read_png, write_png

MANIFEST, SIGNATURE = "eclipse.manifest", "eclipse.signature"
"""Keywords of the iTXt chunks."""


@dataclass(frozen=True)
class Provenanced:
    """A picture whose manifest was checked: ``image`` uint8 [H, W, 3] has the hash that ``manifest`` tells.

    ``said`` is the manifest's content; ``signed`` are the bytes that a ``signature`` is over. Signature and credentials
    are yet to be checked.
    """

    image: NDArray[np.uint8]
    manifest: dict[str, Any]
    said: Manifest
    signed: bytes
    signature: str | None
    has_credentials: bool


def png_with_manifest(image: NDArray[np.uint8], manifest: Mapping[str, Any], signer: Signer | None) -> bytes:
    """PNG bytes of ``image`` uint8 [H, W, 3] with its ``manifest`` and what ``signer`` adds; for any thread."""
    content = canonical(manifest)
    texts = {MANIFEST: content.decode()}
    signature = signer.sign(content) if signer else None
    if signature is not None:
        texts[SIGNATURE] = signature
    png = write_png(image, texts)
    return signer.credentials.embed(png, content, manifest["created"]) if signer and signer.credentials else png


def read_provenanced(content: bytes, name: str) -> Provenanced:
    """Read a PNG of :func:`png_with_manifest`.

    :class:`DataError` naming ``name`` for a PNG that is damaged, carries no manifest or a changed one, or whose pixels
    are not those of its manifest.
    """
    png = read_png(content, name)
    if MANIFEST not in png.texts:
        raise DataError(
            f"{name}: carries no manifest; it was not made by the service, or a program that saved it again dropped it"
        )
    signed = png.texts[MANIFEST].encode()
    manifest, said = parse_manifest(signed, name)
    if pixels_hash(png.image) != said.image.sha256:
        raise DataError(f"{name}: its pixels are not those of its manifest; it was changed after it was made")
    return Provenanced(png.image, manifest, said, signed, png.texts.get(SIGNATURE), png.has_credentials)
