"""Manifests as bytes: one canonical form, its digest, and reading it back.

A manifest's ``digest`` is the SHA-256 of the rest of it in canonical form (sorted keys, no spaces, UTF-8) and so finds
an accidental change. Against a deliberate one only a signature helps (:mod:`eclipse.serve.provenance.signing`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from eclipse.errors import DataError
from eclipse.serve.provenance.schema import SCHEMA, Manifest


def pixels_hash(image: NDArray[np.uint8]) -> str:
    """SHA-256 over ``HxWxC`` in ASCII and the bytes, row by row, of ``image`` uint8 [H, W, C]."""
    digest = hashlib.sha256("x".join(map(str, image.shape)).encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


def canonical(value: Mapping[str, Any]) -> bytes:
    """``value`` as JSON with sorted keys and no spaces, UTF-8; NaN and lone surrogates are a :class:`DataError`."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        raise DataError(f"manifest: cannot be written as JSON ({error}); correct the request") from None


def with_digest(manifest: Manifest) -> dict[str, Any]:
    """The manifest as it is handed out: JSON-able, with its ``digest``. Raises what :func:`canonical` raises."""
    value = manifest.model_dump(mode="json", by_alias=True)
    return {**value, "digest": _digest(value)}


def parse_manifest(content: bytes, name: str) -> tuple[dict[str, Any], Manifest]:
    """Read a manifest in canonical form: the JSON and what it says.

    :class:`DataError` naming ``name`` where it does not have its digest, or is of another schema.
    """
    try:
        value = json.loads(content)
        if not isinstance(value, dict):
            raise ValueError("not a mapping")
        whole = canonical(value) == content and value.pop("digest", None) == _digest(value)
    except (ValueError, RecursionError, DataError) as error:
        raise DataError(f"{name}: its manifest cannot be read ({error}); it was changed") from None
    if not whole:
        raise DataError(f"{name}: its manifest is not the one that its digest was taken of; it was changed")
    if value.get("schema") != SCHEMA:
        raise DataError(f"{name}: its manifest has the schema {value.get('schema')!r}, this program reads {SCHEMA}")
    try:
        said = Manifest.model_validate_json(canonical(value), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{name}: its manifest: {where}: {first['msg']}; the service makes no such one") from None
    return with_digest(said), said


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()
