"""Key files: private keys named by the environment, public keys of signers, and new pairs of both."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from eclipse.errors import ConfigError, DataError
from eclipse.files import atomic_file

SIGNING_KEY = "ECLIPSE_SIGNING_KEY"
_REMEDY = "make a key with `python -m eclipse signing-key --out FILE`"


def load_signing_key() -> Ed25519PrivateKey | None:
    """The Ed25519 key that ``ECLIPSE_SIGNING_KEY`` names; None where it is not set, else a :class:`ConfigError`."""
    named = os.environ.get(SIGNING_KEY)
    key = load_private_key(Path(named), SIGNING_KEY) if named else None
    if key is not None and not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{SIGNING_KEY}: {named} is not an Ed25519 key; {_REMEDY}")
    return key


def load_private_key(path: Path, variable: str) -> PrivateKeyTypes:
    """Any private key of a PEM file without a password; else a :class:`ConfigError` that names ``variable``."""
    try:
        return serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise ConfigError(f"{variable}: {path}: {error.strerror}; {_REMEDY}") from None
    except TypeError:
        raise ConfigError(f"{variable}: {path} is locked by a password; give a key without") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{variable}: {path} holds no private key (PEM); {_REMEDY}") from None


def load_public_key(path: Path) -> Ed25519PublicKey:
    """The Ed25519 public key of a PEM file; else a :class:`ConfigError`."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give the file with the signer's public key") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{path}: holds no public key (PEM); give the file ending in .pub.pem") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{path}: is not an Ed25519 key; give the file ending in .pub.pem")
    return key


def write_pair(path: Path) -> tuple[Ed25519PrivateKey, Path]:
    """Make a key, written to ``path`` for its owner only (mode 0600), and its public half beside it (.pub.pem).

    Returns the key and the public file. A ``path`` that exists is a :class:`DataError`: a lost key cannot be made anew.
    """
    if path.exists():
        raise DataError(f"{path}: exists already; a new key would make its signatures unknown, so give another --out")
    key, public = Ed25519PrivateKey.generate(), path.with_suffix(".pub.pem")
    encoding = serialization.Encoding.PEM
    with atomic_file(public) as beside:
        beside.write_bytes(key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo))
    with atomic_file(path) as beside:
        beside.touch(mode=0o600, exist_ok=False)
        beside.write_bytes(private_pem(key))
    return key, public


def private_pem(key: PrivateKeyTypes) -> bytes:
    """The key as PKCS #8 in PEM, without a password."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def fingerprint(public: bytes) -> str:
    """How a public key of 32 bytes is called in print: the first 16 hexadecimal digits of their SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]
