"""Signatures: who made a manifest, and what is told of keys that do not serve."""

import base64
import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from made_manifests import made_png

from eclipse.errors import ConfigError, DataError
from eclipse.serve.provenance.keys import fingerprint, load_public_key, private_pem, write_pair
from eclipse.serve.provenance.png import read_provenanced
from eclipse.serve.provenance.signing import Signer, check_signature, load_signer

KEY, OTHER = Ed25519PrivateKey.from_private_bytes(b"k" * 32), Ed25519PrivateKey.from_private_bytes(b"o" * 32)
SIGNER = Signer(KEY)


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch):
    for name in ("ECLIPSE_SIGNING_KEY", "ECLIPSE_C2PA_CERTS", "ECLIPSE_C2PA_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_a_signed_picture_is_valid_for_its_key_only():
    found = read_provenanced(made_png(SIGNER), "x.png")
    own = check_signature(found.signed, found.signature, KEY.public_key())
    assert (own.state, own.key) == ("valid", fingerprint(KEY.public_key().public_bytes_raw()))
    assert check_signature(found.signed, found.signature, OTHER.public_key()).state == "unknown key"
    assert check_signature(found.signed, found.signature, None).state == "unknown key"


def test_the_signature_is_over_the_canonical_bytes():
    found = read_provenanced(made_png(SIGNER), "x.png")
    KEY.public_key().verify(base64.b64decode(json.loads(found.signature)["signature"]), found.signed)


def test_no_signature_is_absent():
    found = read_provenanced(made_png(), "x.png")
    assert check_signature(found.signed, found.signature, KEY.public_key()).state == "absent"


def test_a_signature_of_another_manifest_is_wrong():
    text = SIGNER.sign(b"one")
    assert check_signature(b"one", text, KEY.public_key()).state == "valid"
    assert check_signature(b"two", text, KEY.public_key()).state == "wrong"


def test_a_foreign_signature_under_the_trusted_keys_name_is_wrong():
    forged = json.loads(Signer(OTHER).sign(b"one")) | {
        "public_key": base64.b64encode(KEY.public_key().public_bytes_raw()).decode()
    }
    assert check_signature(b"one", json.dumps(forged), KEY.public_key()).state == "wrong"


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"public_key":1,"signature":2}', "[" * 100_000])
def test_what_is_no_signature_is_wrong(text):
    assert check_signature(b"one", text, KEY.public_key()).state == "wrong"


def test_another_algorithm_is_wrong():
    text = json.dumps(json.loads(SIGNER.sign(b"one")) | {"algorithm": "none"})
    assert check_signature(b"one", text, KEY.public_key()).state == "wrong"


def test_without_configuration_nothing_is_signed():
    assert load_signer() is None


def test_a_made_key_is_loaded_and_only_its_owner_can_read_it(tmp_path, monkeypatch):
    key, public = write_pair(tmp_path / "new/key.pem")
    assert (tmp_path / "new/key.pem").stat().st_mode & 0o777 == 0o600
    assert public == tmp_path / "new/key.pub.pem"
    monkeypatch.setenv("ECLIPSE_SIGNING_KEY", str(tmp_path / "new/key.pem"))
    signer = load_signer()
    assert signer.credentials is None
    assert check_signature(b"one", signer.sign(b"one"), load_public_key(public)).state == "valid"
    assert signer.key.private_bytes_raw() == key.private_bytes_raw()


def test_a_key_is_never_replaced(tmp_path):
    write_pair(tmp_path / "key.pem")
    before = (tmp_path / "key.pem").read_bytes(), (tmp_path / "key.pub.pem").read_bytes()
    with pytest.raises(DataError, match="exists already"):
        write_pair(tmp_path / "key.pem")
    assert ((tmp_path / "key.pem").read_bytes(), (tmp_path / "key.pub.pem").read_bytes()) == before


def _locked() -> bytes:
    secret = serialization.BestAvailableEncryption(b"x")
    return KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "holds no private key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "holds no private key"),
        (_locked(), "locked by a password"),
        (private_pem(ec.generate_private_key(ec.SECP256R1())), "is not an Ed25519 key"),
    ],
)
def test_a_key_that_does_not_serve_is_told_at_start(tmp_path, monkeypatch, content, message):
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("ECLIPSE_SIGNING_KEY", str(path))
    with pytest.raises(ConfigError, match=f"^ECLIPSE_SIGNING_KEY: .*{message}"):
        load_signer()


@pytest.mark.parametrize("private", [True, False])
def test_a_public_key_that_does_not_serve_is_named(tmp_path, private):
    path = tmp_path / "key.pub.pem"
    with pytest.raises(ConfigError, match="No such file"):
        load_public_key(path)
    other = ec.generate_private_key(ec.SECP256R1())
    spki = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    path.write_bytes(private_pem(KEY) if private else other.public_key().public_bytes(*spki))
    with pytest.raises(ConfigError, match="no public key" if private else "not an Ed25519 key"):
        load_public_key(path)
