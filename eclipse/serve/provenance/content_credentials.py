"""C2PA content credentials in PNG files, through c2pa-python, which is imported only where they are used.

The library never uses the network here: it may fetch no remote manifest and no revocation status, no time stamp
authority is named, and the list of hosts that it may reach is empty.
"""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

import eclipse
from eclipse.errors import ConfigError, DataError
from eclipse.serve.provenance.keys import SIGNING_KEY, load_private_key, private_pem
from eclipse.serve.provenance.text_png import write_png

if TYPE_CHECKING:
    from c2pa import Context, Signer

CERTS, KEY = "ECLIPSE_C2PA_CERTS", "ECLIPSE_C2PA_KEY"
ASSERTION = "eclipse.manifest"
TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
_OFFLINE = {
    "version": 1,
    "core": {"allowed_network_hosts": []},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_after_sign": False},
    "builder": {"thumbnail": {"enabled": False}},
}


@dataclass(frozen=True)
class ContentCredentials:
    """A certificate ``chain`` (PEM, the signer's first) and its private ``key`` (PEM) for C2PA's ``algorithm``."""

    chain: bytes
    key: bytes = field(repr=False)
    algorithm: str

    def embed(self, png: bytes, manifest: bytes, created: str) -> bytes:
        """``png`` with a C2PA manifest: made by a trained model at ``created``, with our ``manifest`` as an assertion.

        May be called from several threads at once. A refusal of the library is a :class:`DataError`.
        """
        import c2pa

        agent = {"name": "eclipse-priors", "version": eclipse.__version__}
        action = {"action": "c2pa.created", "when": created, "digitalSourceType": TRAINED, "softwareAgent": agent}
        definition = {
            "claim_generator_info": [agent],
            "format": "image/png",
            "assertions": [
                {"label": "c2pa.actions.v2", "data": {"actions": [action]}},
                # As text: the library would round fractions and turn lists of small numbers into base64.
                {"label": ASSERTION, "data": {"json": manifest.decode()}},
            ],
        }
        out = io.BytesIO()
        try:
            with _context(signer=self._signer()) as context, c2pa.Builder(definition, context) as builder:
                builder.sign("image/png", io.BytesIO(png), out)
        except c2pa.C2paError as error:
            raise DataError(f"C2PA: the credentials cannot be embedded ({error})") from None
        return out.getvalue()

    def _signer(self) -> Signer:
        import c2pa

        return c2pa.Signer.from_info(c2pa.C2paSignerInfo(self.algorithm, self.chain, self.key, None))


@dataclass(frozen=True)
class CredentialsFound:
    """What a PNG's credentials say.

    ``state``: ``Trusted`` (whole, by a signer of a known authority), ``Valid`` (whole, by whomever) or ``Invalid``,
    for the ``faults`` listed. ``manifest`` are the bytes of ours that was asserted, None where there is none.
    """

    state: str
    faults: tuple[str, ...]
    signer: str | None
    source_type: str | None
    manifest: bytes | None


def load_credentials(signing_key: PrivateKeyTypes | None) -> ContentCredentials | None:
    """The credentials that ``ECLIPSE_C2PA_CERTS`` names, with the key of ``ECLIPSE_C2PA_KEY`` or else ``signing_key``.

    None where no certificates are named. They are tried on a picture: what the library would refuse or call invalid
    later (a wrong profile, an expired certificate, a key that does not belong to it) is a :class:`ConfigError` now.
    """
    named, key_named = os.environ.get(CERTS), os.environ.get(KEY)
    if not named:
        if key_named:
            raise ConfigError(f"{KEY} is set but {CERTS} is not; name the certificate chain (PEM) too")
        return None
    key = load_private_key(Path(key_named), KEY) if key_named else signing_key
    if key is None:
        raise ConfigError(f"{CERTS} is set, but neither {KEY} nor {SIGNING_KEY}; name the certificate's key")
    chain = _read_chain(Path(named))
    if chain[0].public_key() != key.public_key():
        raise ConfigError(
            f"{CERTS}: the first certificate of {named} is not that of the key; give the chain made for it"
        )
    pem = b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in chain)
    made = ContentCredentials(pem, private_pem(key), _algorithm(key, KEY if key_named else CERTS))
    _try(made, named)
    return made


def read_credentials(png: bytes, anchors: bytes | None = None) -> CredentialsFound:
    """The credentials in ``png``; signers are trusted that the certificates ``anchors`` (PEM) vouch for.

    Trust in general is not judged: this machine keeps no list of authorities. :class:`DataError` if there are none, or
    they cannot be read at all.
    """
    import c2pa

    try:
        with _context(anchors) as context, c2pa.Reader("image/png", io.BytesIO(png), context=context) as reader:
            report = json.loads(reader.json())
    except c2pa.C2paError as error:
        raise DataError(f"C2PA: the credentials cannot be read ({error}); the file was changed") from None
    try:
        return _found(report)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"C2PA: the credentials are of no known form ({error}); another program made them") from None


def trusted_anchors() -> bytes | None:
    """The last certificate of ``ECLIPSE_C2PA_CERTS``, the authority of this machine's own signer, as PEM."""
    named = os.environ.get(CERTS)
    return _read_chain(Path(named))[-1].public_bytes(serialization.Encoding.PEM) if named else None


def _found(report: dict[str, Any]) -> CredentialsFound:
    active = report["manifests"][report["active_manifest"]]
    assertions = {item["label"]: item.get("data") for item in active.get("assertions", [])}
    actions = assertions.get("c2pa.actions.v2", {}).get("actions", [])
    signed, told = active.get("signature_info", {}), assertions.get(ASSERTION, {}).get("json")
    return CredentialsFound(
        state=report["validation_state"],
        faults=tuple(sorted({fault["code"] for fault in report.get("validation_status", [])})),
        signer=", ".join(signed[key] for key in ("common_name", "issuer") if signed.get(key)) or None,
        source_type=next((a.get("digitalSourceType") for a in actions if a.get("action") == "c2pa.created"), None),
        manifest=None if told is None else told.encode(),
    )


def _context(anchors: bytes | None = None, signer: Signer | None = None) -> Context:
    import c2pa

    verify = {**_OFFLINE["verify"], "verify_trust": anchors is not None}  # type: ignore[dict-item]
    trust = {} if anchors is None else {"trust": {"user_anchors": anchors.decode()}}
    return c2pa.Context.from_dict({**_OFFLINE, "verify": verify, **trust}, signer=signer)


def _read_chain(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{CERTS}: {path}: {error.strerror}; give the certificate chain (PEM)") from None
    except ValueError:
        raise ConfigError(f"{CERTS}: {path} holds no certificates (PEM); give the chain, the signer's first") from None


def _algorithm(key: PrivateKeyTypes, variable: str) -> str:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    raise ConfigError(f"{variable}: C2PA credentials need a key of Ed25519, P-256, P-384 or P-521")


def _try(credentials: ContentCredentials, named: str) -> None:
    try:
        signed = credentials.embed(write_png(np.zeros((1, 1, 3), np.uint8), {}), b"{}", "2000-01-01T00:00:00Z")
        found = read_credentials(signed)
    except DataError as error:
        raise ConfigError(f"{CERTS}: {named}: {error}; see docs/provenance.md for the certificates it takes") from None
    if found.state == "Invalid":
        raise ConfigError(
            f"{CERTS}: {named}: C2PA calls its signatures invalid ({', '.join(found.faults)}); see docs/provenance.md "
            "for the certificates it takes"
        )
