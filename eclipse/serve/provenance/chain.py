"""The chain behind a picture: file, signatures, request, models, training, data and code, and what is still here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from eclipse.serve.provenance.checkout import Checkout, Standing
from eclipse.serve.provenance.content_credentials import CredentialsFound, read_credentials, trusted_anchors
from eclipse.serve.provenance.keys import fingerprint, load_signing_key
from eclipse.serve.provenance.png import Provenanced, read_provenanced
from eclipse.serve.provenance.roles import roles_now
from eclipse.serve.provenance.schema import Manifest
from eclipse.serve.provenance.signing import Signature, check_signature


@dataclass(frozen=True)
class Chain:
    """A picture's whole chain. ``standing`` tells of links (prior, decoder, store, …) whether the checkout has them.

    ``roles`` are those of the prior's version now, by who says so. ``faults`` are reasons not to trust the picture.
    """

    picture: Provenanced
    signature: Signature
    credentials: CredentialsFound | None
    standing: dict[str, Standing]
    roles: dict[str, tuple[str, ...]]
    faults: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it, JSON-able."""
        credentials = None
        if self.credentials is not None:
            credentials = {key: item for key, item in asdict(self.credentials).items() if key != "manifest"}
        return {
            "manifest": self.picture.manifest,
            "signature": asdict(self.signature),
            "credentials": credentials,
            "checkout": {link: asdict(found) for link, found in self.standing.items()},
            "roles": self.roles,
            "faults": self.faults,
        }


def trace(content: bytes, name: str, checkout: Checkout, *, public_key: Ed25519PublicKey | None = None) -> Chain:
    """The chain of the PNG ``content``, as far as ``checkout`` and MLflow know it.

    ``public_key`` is whose signature is wanted; by default that of ``ECLIPSE_SIGNING_KEY``. A file that is damaged,
    changed or carries no manifest is a :class:`DataError` that calls it ``name``.
    """
    picture = read_provenanced(content, name)
    own = load_signing_key() if public_key is None else None
    signature = check_signature(picture.signed, picture.signature, own.public_key() if own else public_key)
    credentials = read_credentials(content, trusted_anchors()) if picture.has_credentials else None
    said = picture.said
    return Chain(
        picture,
        signature,
        credentials,
        _standings(said, checkout),
        roles_now(said.prior, checkout.root),
        tuple(_faults(picture, signature, credentials, public_key)),
    )


def _faults(
    picture: Provenanced,
    signature: Signature,
    credentials: CredentialsFound | None,
    wanted: Ed25519PublicKey | None,
) -> Iterator[str]:
    if signature.state == "wrong":
        yield "its signature does not fit its manifest"
    elif wanted is not None and signature.state != "valid":
        found = f"but by {signature.key}" if signature.key else "nor by any other"
        yield f"it is not signed by the key {fingerprint(wanted.public_bytes_raw())} that was asked for, {found}"
    if credentials is not None and credentials.state == "Invalid":
        yield f"its C2PA credentials are invalid ({', '.join(credentials.faults)})"
    if credentials is not None and credentials.manifest != picture.signed:
        yield "its C2PA credentials hold another manifest"


def _standings(said: Manifest, checkout: Checkout) -> dict[str, Standing]:
    data = said.data
    standing = {
        "decoder": _at(checkout.decoder(said.frozen.decoder_hash)),
        "prior": _at(checkout.prior(said.prior.hash)),
    }
    if data.store_hash:
        standing["store"] = checkout.store(data.store_hash)
    if data.dataset_digest:
        standing["dataset"] = checkout.dataset(data.dataset_digest)
    if data.dvc_lock:
        standing["dvc_lock"] = checkout.lock(data.dvc_lock, data.commit)
    if data.commit:
        standing["commit"] = checkout.commit(data.commit)
    return standing


def _at(folder: Path | None) -> Standing:
    return Standing("here", str(folder)) if folder else Standing("absent")
