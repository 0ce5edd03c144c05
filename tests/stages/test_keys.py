"""The command ``signing-key``: a key that serves at once, readable by its owner only."""

from pathlib import Path

import pytest
from made_manifests import made_png

from eclipse import cli
from eclipse.serve.provenance.content_credentials import read_credentials, trusted_anchors
from eclipse.serve.provenance.keys import load_public_key
from eclipse.serve.provenance.png import read_provenanced
from eclipse.serve.provenance.signing import check_signature, load_signer

PARAMS = str(Path(__file__).resolve().parents[2] / "params.yaml")


@pytest.fixture
def make(tmp_path, monkeypatch, capsys):
    for name in ("ECLIPSE_SIGNING_KEY", "ECLIPSE_C2PA_CERTS", "ECLIPSE_C2PA_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*words: str):
        status = cli.main(["signing-key", "--out", "keys/eclipse.pem", "--params", PARAMS, "--quiet", *words])
        return status, *capsys.readouterr()

    return run


def test_the_key_signs_and_its_public_half_verifies(make, monkeypatch):
    status, text, _ = make()
    assert status == 0
    assert sorted(path.name for path in Path("keys").iterdir()) == ["eclipse.pem", "eclipse.pub.pem"]
    assert Path("keys/eclipse.pem").stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("ECLIPSE_SIGNING_KEY", "keys/eclipse.pem")
    found = read_provenanced(made_png(load_signer()), "x.png")
    assert not found.has_credentials
    signature = check_signature(found.signed, found.signature, load_public_key(Path("keys/eclipse.pub.pem")))
    assert signature.state == "valid" and text.startswith(f"key {signature.key}\n")


def test_its_certificates_serve_for_c2pa(make, monkeypatch):
    assert make("--c2pa")[0] == 0
    monkeypatch.setenv("ECLIPSE_SIGNING_KEY", "keys/eclipse.pem")
    monkeypatch.setenv("ECLIPSE_C2PA_CERTS", "keys/eclipse.certs.pem")
    assert read_credentials(made_png(load_signer()), trusted_anchors()).state == "Trusted"


def test_a_second_time_nothing_is_touched(make):
    make()
    before = {path.name: path.read_bytes() for path in Path("keys").iterdir()}
    status, _, error = make("--c2pa")
    assert status == 2 and "exists already" in error
    assert {path.name: path.read_bytes() for path in Path("keys").iterdir()} == before
