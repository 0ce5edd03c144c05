"""The command ``whence`` on files as people have them: what is printed, and when it fails."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from made_manifests import made_png, noise
from PIL import Image

from eclipse import cli
from eclipse.serve.provenance.keys import write_pair
from eclipse.serve.provenance.png import png_with_manifest
from eclipse.serve.provenance.signing import Signer

PARAMS = str(Path(__file__).resolve().parents[2] / "params.yaml")


@pytest.fixture
def whence(tmp_path, monkeypatch, capsys):
    """Write a PNG and run the command on it in a folder with nothing else; its status, output and error."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("ECLIPSE_", "MLFLOW_TRACKING"))]:
        monkeypatch.delenv(name)

    def run(png: bytes, *words: str):
        (tmp_path / "x.png").write_bytes(png)
        status = cli.main(["whence", "x.png", "--params", PARAMS, "--quiet", *words])
        return status, *capsys.readouterr()

    return run


def test_a_sound_picture_is_told_in_lines_and_as_json(whence):
    status, text, error = whence(made_png())
    assert (status, error) == (0, "")
    assert text.startswith("picture     x.png: 24 × 16, its pixels are those of its manifest\nsignature   absent\n")
    status, text, _ = whence(made_png(), "--json")
    assert status == 0
    assert json.loads(text)["manifest"]["request"]["seed"] == 7


def test_the_signers_key_can_be_asked_for(whence, tmp_path):
    key, public = write_pair(tmp_path / "key.pem")
    _, other = write_pair(tmp_path / "other.pem")
    assert whence(made_png(Signer(key)), "--public-key", str(public))[0] == 0
    status, text, error = whence(made_png(Signer(key)), "--public-key", str(other))
    assert status == 2 and "signature   unknown key" in text
    assert error.startswith("error: x.png: it is not signed by the key") and error.count("\n") == 1
    assert "is not signed" in whence(made_png(), "--public-key", str(public))[2]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (b"", "is not a PNG"),
        (made_png()[:-20], "ends too early"),
        (png_with_manifest(255 - noise(), {"a": 1}, None), "digest was taken of"),
    ],
)
def test_a_broken_file_is_one_line(whence, made, message):
    status, text, error = whence(made)
    assert (status, text) == (2, "")
    assert error.startswith("error: x.png: ") and message in error and error.count("\n") == 1


def test_a_picture_saved_again_is_one_line(whence):
    buffer = io.BytesIO()
    Image.open(io.BytesIO(made_png())).save(buffer, "PNG")
    assert "carries no manifest" in whence(buffer.getvalue())[2]


def test_a_missing_file_is_one_line(whence, capsys):
    assert cli.main(["whence", "none.png", "--params", PARAMS]) == 2
    assert capsys.readouterr().err == "error: none.png: No such file or directory\n"
