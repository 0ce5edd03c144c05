"""Command ``signing-key``: a key for the service to sign its pictures with."""

from __future__ import annotations

from pathlib import Path

from eclipse.config.params import Params


def run(params: Params, *, out: Path, c2pa: bool = False) -> dict[str, str]:
    """Make an Ed25519 key for signing pictures: ``out`` (PEM, readable by you only) and its public half (.pub.pem).

    ``c2pa`` also writes a certificate chain for it (.certs.pem), by an authority of its own that no viewer of others
    knows. The service signs where ECLIPSE_SIGNING_KEY names the key, and adds C2PA credentials where
    ECLIPSE_C2PA_CERTS names the chain. Hand out the public half only. A key that exists is never replaced.
    """
    from eclipse.files import atomic_file
    from eclipse.serve.provenance.certificates import self_made_chain
    from eclipse.serve.provenance.keys import fingerprint, write_pair

    key, public = write_pair(out)
    made = {"ECLIPSE_SIGNING_KEY": str(out), "public": str(public)}
    if c2pa:
        chain = out.with_suffix(".certs.pem")
        with atomic_file(chain) as beside:
            beside.write_bytes(self_made_chain(key.public_key()))
        made["ECLIPSE_C2PA_CERTS"] = str(chain)
    print(f"key {fingerprint(key.public_key().public_bytes_raw())}")
    for name, path in made.items():
        print(f"{name}: {path}")
    return made
