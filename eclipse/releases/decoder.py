"""``decoder.json`` among releases: digests of files are read again only when a file changed.

See :mod:`eclipse.models.decoder.reference`, which knows what such a reference is.
"""

from __future__ import annotations

from pathlib import Path

from eclipse.models.decoder import reference as decoders
from eclipse.models.decoder.reference import REFERENCE, DecoderReference, read_reference
from eclipse.releases.digests import sha256_of

__all__ = ["REFERENCE", "DecoderReference", "locate", "pin", "read_reference"]


def locate(reference: DecoderReference) -> Path:
    """:func:`eclipse.models.decoder.reference.locate`."""
    return decoders.locate(reference, digest=sha256_of)


def pin(source: str, revision: str) -> DecoderReference:
    """:func:`eclipse.models.decoder.reference.pin`."""
    return decoders.pin(source, revision, digest=sha256_of)
