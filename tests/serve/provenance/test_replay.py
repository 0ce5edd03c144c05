"""Pictures of a real server made again from their files alone: equal bits, or what has changed."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from made_manifests import chunks, noise
from made_picture import edges_png, subject_png
from made_server import make_prior

from eclipse import cli
from eclipse.config.decoder import DecoderParams
from eclipse.errors import CheckpointError, DataError
from eclipse.models.checkpoint import prior_hash
from eclipse.serve.provenance.checkout import Checkout
from eclipse.serve.provenance.png import read_provenanced
from eclipse.serve.provenance.replay import compare, replay
from eclipse.tracking import registry

PROMPT = "a star left of a heart"


@pytest.fixture
def checkout(served_root, monkeypatch) -> Checkout:
    monkeypatch.delenv("ECLIPSE_RELEASES", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Checkout(served_root)


@pytest.fixture(scope="module")
def drawn(client) -> bytes:
    """The second of three pictures that the engine drew side by side."""
    body = {"prompt": "a red star", "n": 3, "seed": 11, "steps": 3, "negative_prompt": "a green ring"}
    return _png(client.post("/v1/images/generations", json=body), 1)


@pytest.fixture(scope="module")
def personal(client, tmp_path_factory) -> tuple[bytes, Path]:
    """A picture with two subjects and edges, and the folder with their files."""
    folder = tmp_path_factory.mktemp("own")
    for name, content in (("star", subject_png("red")), ("heart", subject_png("blue")), ("edges", edges_png())):
        (folder / f"{name}.png").write_bytes(content)
    files = [("image[]", (name, (folder / f"{name}.png").read_bytes(), "image/png")) for name in ("star", "heart")]
    files.append(("edges", ("edges", (folder / "edges.png").read_bytes(), "image/png")))
    data = {"prompt": PROMPT, "noun[]": ["star", "heart"], "seed": "3"}
    return _png(client.post("/v1/images/edits", data=data, files=files)), folder


def _png(response, index: int = 0) -> bytes:
    assert response.status_code == 200, response.text
    return base64.b64decode(response.json()["data"][index]["b64_json"])


def again(png: bytes, checkout: Checkout, **given):
    found = read_provenanced(png, "x.png")
    return replay(found.image, found.said, checkout, **given)


def changed(png: bytes, **sections):
    """The picture, and its manifest with other sections."""
    found = read_provenanced(png, "x.png")
    parts = {name: getattr(found.said, name).model_copy(update=update) for name, update in sections.items()}
    return found.image, found.said.model_copy(update=parts)


class TestEqualBits:
    def test_a_picture_drawn_among_others(self, drawn, checkout):
        found = again(drawn, checkout)
        assert found.identical and found.changes == ()
        assert found.told == "bit-identical: every pixel is the same"
        assert np.array_equal(found.image, read_provenanced(drawn, "x").image)

    def test_a_blend(self, client, checkout):
        body = {"from": "a red star", "to": "a blue heart", "steps": 2, "frames": 3, "seed": 5}
        assert again(_png(client.post("/v1/interpolate", json=body), 1), checkout).identical

    def test_subjects_and_edges_given_again_in_any_order(self, personal, checkout):
        png, folder = personal
        files = [folder / "heart.png", folder / "star.png"]
        assert again(png, checkout, subjects=files, control=folder / "edges.png").identical

    def test_with_the_threads_of_then(self, drawn, checkout):
        before = torch.get_num_threads()
        image, said = changed(drawn, compute={"threads": before + 1})
        assert replay(image, said, checkout).changes == ()
        assert torch.get_num_threads() == before

    def test_in_the_precision_of_then(self, drawn, checkout):
        assert again(drawn, checkout, memory=DecoderParams(precision="bf16")).identical
        image, said = changed(drawn, compute={"precision": "bf16"})
        found = replay(image, said, checkout, memory=DecoderParams(precision="fp32"))
        assert found.pixels > 0 and found.changes == ()

    def test_a_prior_that_only_mlflow_has(self, drawn, checkout, tmp_path, monkeypatch):
        said = read_provenanced(drawn, "x").said
        root = tmp_path / "root"
        (root / "artifacts").mkdir(parents=True)
        (root / "artifacts/frozen").symlink_to(checkout.root / "artifacts/frozen")
        named = {"registered": {"name": "eclipse-prior-eclipse-mini", "version": "4"}}
        prior = said.prior.model_validate(said.prior.model_dump() | named)

        class Answers:
            def get(self, name, version):
                return registry.Version(name, version, {"eclipse.prior_hash": prior.hash}, (), "run")

            def download(self, version, to):
                make_prior(to, "eclipse")
                return to

        monkeypatch.setattr(registry, "Registry", Answers)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        image = read_provenanced(drawn, "x").image
        assert replay(image, said.model_copy(update={"prior": prior}), Checkout(root)).identical


class TestOtherBits:
    def test_are_counted_and_measured(self):
        first = np.full((2, 3, 3), 100, np.uint8)
        second = first.copy()
        second[0, 1] = (90, 100, 105)
        second[1, 2] = (100, 255, 100)
        found = compare(first, second, ("torch: 1 then, 2 now",))
        assert (found.pixels, found.total, found.largest, found.identical) == (2, 6, 155, False)
        assert found.told == (
            "not identical: 2 of 6 pixels differ, by at most 155 of 255 grey levels\n  torch: 1 then, 2 now"
        )
        assert "nothing that the manifest tells of" in compare(first, second).told

    def test_other_shapes_cannot_be_compared(self):
        with pytest.raises(DataError, match="made again it is 24 × 16"):
            compare(noise()[:, :8], noise())

    def test_another_seed_is_another_picture(self, drawn, checkout):
        image, said = changed(drawn, request={"seed": 999})
        assert replay(image, said, checkout).pixels > 1000

    def test_what_has_changed_since_is_named(self, drawn, checkout):
        then = {"torch": "1.0", "processor": "abacus", "exact": False}
        image, said = changed(drawn, compute=then, service={"commit": "a" * 40, "dirty": False})
        names = [change.partition(":")[0] for change in replay(image, said, checkout).changes]
        assert names == ["processor", "torch", "exact", "program"]


class TestWhatIsMissing:
    def test_models_that_are_nowhere_are_named(self, drawn, checkout):
        for section, field, what in (
            ("frozen", "encoder_hash", "CLIP"),
            ("frozen", "decoder_hash", "decoder"),
            ("prior", "hash", "prior"),
        ):
            image, said = changed(drawn, **{section: {field: "0" * 64}})
            with pytest.raises(CheckpointError, match=f"no {what} 000000000000 .*dvc pull"):
                replay(image, said, checkout)

    def test_pictures_that_are_not_given_are_asked_for(self, personal, checkout):
        png, folder = personal
        with pytest.raises(DataError, match="give subject “heart”, edges by --subject or --canny"):
            again(png, checkout, subjects=[folder / "star.png"])

    @pytest.mark.parametrize("flag", ["subjects", "control"])
    def test_another_file_is_refused_by_its_hash(self, personal, checkout, tmp_path, flag):
        png, _ = personal
        (tmp_path / "other.png").write_bytes(subject_png("green"))
        given = {flag: [tmp_path / "other.png"] if flag == "subjects" else tmp_path / "other.png"}
        with pytest.raises(DataError, match=r"other\.png: has the hash .* give the very file that was sent"):
            again(png, checkout, **given)

    def test_a_picture_without_subjects_takes_none(self, drawn, checkout, personal):
        with pytest.raises(DataError, match="the manifest tells of none"):
            again(drawn, checkout, subjects=[personal[1] / "star.png"])


class TestCommands:
    def test_replay_writes_the_new_picture_and_says_so(self, drawn, served_root, tmp_path, monkeypatch, capsys):
        (tmp_path / "x.png").write_bytes(drawn)
        monkeypatch.chdir(served_root)
        assert cli.main(["replay", str(tmp_path / "x.png"), "--out", str(tmp_path / "y.png"), "--quiet"]) == 0
        assert capsys.readouterr().out == "bit-identical: every pixel is the same\n"
        assert [kind for kind, _ in chunks((tmp_path / "y.png").read_bytes())] == [b"IHDR", b"IDAT", b"IEND"]

    def test_whence_tells_what_the_checkout_has(self, drawn, served_root, tmp_path, monkeypatch, capsys):
        (tmp_path / "x.png").write_bytes(drawn)
        monkeypatch.chdir(served_root)
        assert cli.main(["whence", str(tmp_path / "x.png"), "--json", "--quiet"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["checkout"]["prior"] == {"has": "here", "where": "artifacts/selected"}
        assert told["checkout"]["decoder"] == {"has": "here", "where": "artifacts/frozen/decoder"}
        assert told["manifest"]["prior"]["hash"] == prior_hash(served_root / "artifacts/selected")
        assert told["manifest"]["prior"]["registered"] is None
