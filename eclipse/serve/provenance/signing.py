"""Signatures on manifests: Ed25519 over the canonical bytes, with a key of the person who runs the service."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from eclipse.serve.provenance.content_credentials import ContentCredentials, load_credentials
from eclipse.serve.provenance.keys import fingerprint, load_signing_key

SignatureState: TypeAlias = Literal["valid", "absent", "unknown key", "wrong"]


@dataclass(frozen=True)
class Signer:
    """What a service signs its pictures with: a key for manifests, C2PA credentials, or both."""

    key: Ed25519PrivateKey | None = None
    credentials: ContentCredentials | None = None

    def sign(self, manifest: bytes) -> str | None:
        """The text of the signature of ``manifest`` (its canonical bytes); None without a key."""
        if self.key is None:
            return None
        public, signature = self.key.public_key().public_bytes_raw(), self.key.sign(manifest)
        made = {"algorithm": "Ed25519", "public_key": _text(public), "signature": _text(signature)}
        return json.dumps(made, sort_keys=True)


@dataclass(frozen=True)
class Signature:
    """A signature as found: its ``state``, and the :func:`fingerprint` of the key that it fits."""

    state: SignatureState
    key: str | None = None


def load_signer() -> Signer | None:
    """What ``ECLIPSE_SIGNING_KEY``, ``ECLIPSE_C2PA_CERTS`` and ``ECLIPSE_C2PA_KEY`` name; None where none is set.

    A key or certificate that cannot be read, is of another kind, or does not fit is a :class:`ConfigError` that names
    the variable: a service that was told to sign does not start without.
    """
    key = load_signing_key()
    credentials = load_credentials(key)
    return None if key is None and credentials is None else Signer(key, credentials)


def check_signature(manifest: bytes, text: str | None, trusted: Ed25519PublicKey | None) -> Signature:
    """What the signature ``text`` says of ``manifest``.

    ``valid``: made with the ``trusted`` key. ``unknown key``: it fits the key that it names, but that is not the
    trusted one, or none is known; anyone can make such a signature. ``wrong``: it does not fit.
    """
    if text is None:
        return Signature("absent")
    try:
        value: Any = json.loads(text)
        public, signature = (base64.b64decode(value[name], validate=True) for name in ("public_key", "signature"))
        Ed25519PublicKey.from_public_bytes(public).verify(signature, manifest)
        if value["algorithm"] != "Ed25519":
            return Signature("wrong")
    except (ValueError, TypeError, KeyError, RecursionError, InvalidSignature):
        return Signature("wrong")
    known = trusted is not None and trusted.public_bytes_raw() == public
    return Signature("valid" if known else "unknown key", fingerprint(public))


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
