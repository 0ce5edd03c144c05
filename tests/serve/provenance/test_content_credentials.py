"""C2PA credentials: made and verified by the real library, offline, and refused at start where they would be void."""

import http.server
import io
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import c2pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from made_manifests import chunks, joined, made_manifest, made_png
from PIL import Image

from eclipse.errors import ConfigError, DataError
from eclipse.serve.provenance import content_credentials as credentials
from eclipse.serve.provenance.canonical import canonical
from eclipse.serve.provenance.certificates import self_made_chain
from eclipse.serve.provenance.content_credentials import read_credentials, trusted_anchors
from eclipse.serve.provenance.keys import private_pem
from eclipse.serve.provenance.png import read_provenanced
from eclipse.serve.provenance.signing import load_signer

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
USAGES = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
          "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip


def chain_of(key, *, usage=ExtendedKeyUsageOID.EMAIL_PROTECTION, days=10, signed=True) -> bytes:
    """A chain for any kind of key, as another authority might issue it."""
    authority = ec.generate_private_key(ec.SECP256R1())
    root, leaf = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("root", "leaf"))
    now = datetime.now(UTC)

    def begun(subject, public):
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(root).public_key(public)
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=20))
        return made.not_valid_after(now + timedelta(days=days))

    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
    usages = x509.KeyUsage(**{name: name == "digital_signature" for name in USAGES})
    made = begun(leaf, key.public_key()).add_extension(usages, critical=True)
    made = made.add_extension(x509.ExtendedKeyUsage([usage]), critical=False).add_extension(identifier, critical=False)
    top = begun(root, authority.public_key()).add_extension(x509.BasicConstraints(True, 0), critical=True)
    parts = [made.sign(authority, hashes.SHA256()), top.sign(authority, hashes.SHA256())]
    return b"".join(part.public_bytes(Encoding.PEM) for part in parts)


@pytest.fixture
def configured(tmp_path, monkeypatch):
    """Writes key and chain and names them in the environment."""

    def configure(chain: bytes | None, key=KEY, *, signing: bool = True):
        (tmp_path / "key.pem").write_bytes(private_pem(key))
        monkeypatch.delenv("ECLIPSE_C2PA_KEY", raising=False)
        monkeypatch.delenv("ECLIPSE_SIGNING_KEY", raising=False)
        monkeypatch.setenv("ECLIPSE_SIGNING_KEY" if signing else "ECLIPSE_C2PA_KEY", str(tmp_path / "key.pem"))
        monkeypatch.setenv("ECLIPSE_C2PA_CERTS", str(tmp_path / "certs.pem"))
        if chain is not None:
            (tmp_path / "certs.pem").write_bytes(chain)

    return configure


def test_a_picture_is_told_to_be_made_by_a_model_and_holds_the_manifest(configured):
    configured(self_made_chain(KEY.public_key()))
    png = made_png(load_signer())
    found = read_credentials(png, trusted_anchors())
    assert (found.state, found.faults, found.signer) == ("Trusted", (), "pictures, eclipse-priors (self-made)")
    assert found.source_type == "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    assert found.manifest == canonical(made_manifest())
    assert read_provenanced(png, "x.png").has_credentials
    assert Image.open(io.BytesIO(png)).size == (24, 16)


def test_whose_authority_is_unknown_is_whole_but_not_trusted(configured):
    configured(self_made_chain(KEY.public_key()))
    png = made_png(load_signer())
    assert read_credentials(png).state == "Valid"
    other = self_made_chain(Ed25519PrivateKey.generate().public_key())
    found = read_credentials(png, other)
    assert (found.state, found.faults) == ("Valid", ("signingCredential.untrusted",))


@pytest.mark.parametrize(
    "key", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1(), None], ids=lambda key: key.name if key else "own"
)
def test_keys_of_each_kind_serve(configured, key):
    key = KEY if key is None else ec.generate_private_key(key)
    configured(chain_of(key), key, signing=False)
    signer = load_signer()
    assert signer.key is None
    assert read_credentials(made_png(signer), trusted_anchors()).state == "Trusted"


def test_changed_pixels_and_a_changed_assertion_are_invalid(configured):
    configured(self_made_chain(KEY.public_key()))
    parts = chunks(made_png(load_signer()))
    other = dict(chunks(made_png(image=255 - read_provenanced(made_png(), "x").image)))
    swapped = joined([(kind, other[kind] if kind == b"IDAT" else data) for kind, data in parts])
    assert read_credentials(swapped).state == "Invalid"
    edited = joined([(k, d.replace(b"red star", b"red moon") if k == b"caBX" else d) for k, d in parts])
    assert read_credentials(edited).state == "Invalid"


def test_damaged_credentials_are_an_error(configured):
    configured(self_made_chain(KEY.public_key()))
    parts = [(kind, b"\0" * len(data) if kind == b"caBX" else data) for kind, data in chunks(made_png(load_signer()))]
    with pytest.raises(DataError, match="C2PA: the credentials cannot be read"):
        read_credentials(joined(parts))


def test_several_threads_may_sign_at_once(configured):
    configured(self_made_chain(KEY.public_key()))
    signer = load_signer()
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: made_png(signer), range(40)))
    assert {read_credentials(png).state for png in made} == {"Valid"}


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        (None, "No such file"),
        (b"nothing", "holds no certificates"),
        (self_made_chain(Ed25519PrivateKey.generate().public_key()), "not that of the key"),
        (chain_of(KEY, days=-1), "certificate was not valid at time of signing|expired"),
        (chain_of(KEY, usage=ExtendedKeyUsageOID.CODE_SIGNING), "certificate is invalid"),
        (chain_of(KEY, usage=x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")), "signingCredential.invalid"),
    ],
    ids=["missing", "empty", "of another key", "expired", "for code", "for documents"],
)
def test_certificates_that_do_not_serve_are_told_at_start(configured, chain, message):
    configured(chain)
    with pytest.raises(ConfigError, match=f"^ECLIPSE_C2PA_CERTS: .*({message})"):
        load_signer()


def test_a_key_of_a_kind_that_does_not_serve_is_told_at_start(configured):
    key = rsa.generate_private_key(65537, 2048)
    configured(chain_of(key), key, signing=False)
    with pytest.raises(ConfigError, match="ECLIPSE_C2PA_KEY: C2PA credentials need a key of Ed25519"):
        load_signer()


def test_half_a_configuration_is_told_at_start(configured, monkeypatch):
    configured(self_made_chain(KEY.public_key()), signing=False)
    monkeypatch.delenv("ECLIPSE_C2PA_CERTS")
    with pytest.raises(ConfigError, match="ECLIPSE_C2PA_KEY is set but ECLIPSE_C2PA_CERTS is not"):
        load_signer()
    configured(self_made_chain(KEY.public_key()))
    monkeypatch.delenv("ECLIPSE_SIGNING_KEY")
    with pytest.raises(ConfigError, match="neither ECLIPSE_C2PA_KEY nor ECLIPSE_SIGNING_KEY"):
        load_signer()


def test_a_manifest_that_lies_elsewhere_is_not_fetched(configured):
    """Credentials may be a mere address: the library would fetch them by default."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        png = _with_remote(f"http://127.0.0.1:{server.server_port}/manifest", self_made_chain(KEY.public_key()))
        with pytest.raises(c2pa.C2paError):
            c2pa.Reader("image/png", io.BytesIO(png))
        assert asked == ["/manifest"]
        with pytest.raises(DataError, match="C2PA"):
            read_credentials(png)
        assert asked == ["/manifest"]
    finally:
        server.shutdown()
        server.server_close()


def _with_remote(url: str, chain: bytes) -> bytes:
    out = io.BytesIO()
    made = credentials.ContentCredentials(chain, private_pem(KEY), "ed25519")
    with credentials._context(signer=made._signer()) as context:
        action = {"action": "c2pa.created", "digitalSourceType": credentials.TRAINED}
        builder = c2pa.Builder({"assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}]}, context)
        builder.set_remote_url(url)
        builder.set_no_embed()
        builder.sign("image/png", io.BytesIO(made_png()), out)
    return out.getvalue()


def test_the_library_is_not_loaded_without_configuration(tmp_path):
    (tmp_path / "x.png").write_bytes(made_png())
    program = (
        "import pathlib, sys; from eclipse.serve.provenance import png, signing;"
        "found = png.read_provenanced(pathlib.Path('x.png').read_bytes(), 'x');"
        "png.png_with_manifest(found.image, found.manifest, signing.load_signer()); sys.exit('c2pa' in sys.modules)"
    )
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    run = subprocess.run([sys.executable, "-c", program], env=environment, cwd=tmp_path, check=False)
    assert run.returncode == 0
