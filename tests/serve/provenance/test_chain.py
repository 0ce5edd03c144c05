"""The chain behind a picture, told from the file, the checkout, its releases and MLflow."""

import hashlib
import json
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from made_manifests import COMMIT, NAME, chunks, joined, made_png, made_prompt, made_served, noise
from made_releases import make_prior

from eclipse.data.images import encode_png
from eclipse.errors import DataError, EclipseError
from eclipse.files import sha256, tree_digest, write_json
from eclipse.releases import Entry, Model, Releases, State
from eclipse.serve.provenance import roles as roles_module
from eclipse.serve.provenance.certificates import self_made_chain
from eclipse.serve.provenance.chain import trace
from eclipse.serve.provenance.checkout import Checkout, Standing
from eclipse.serve.provenance.content_credentials import ContentCredentials
from eclipse.serve.provenance.keys import private_pem
from eclipse.serve.provenance.png import read_provenanced
from eclipse.serve.provenance.signing import Signer
from eclipse.serve.provenance.told import tell, tell_json
from eclipse.serve.types import Blend, Prompt
from eclipse.tracking import registry

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
CREDENTIALS = ContentCredentials(self_made_chain(KEY.public_key()), private_pem(KEY), "ed25519")


@pytest.fixture(autouse=True)
def _nothing_configured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ("SIGNING_KEY", "C2PA_CERTS", "C2PA_KEY", "RELEASES")
    for name in ("MLFLOW_TRACKING_URI", *(f"ECLIPSE_{name}" for name in names)):
        monkeypatch.delenv(name, raising=False)


def traced(root, png=None, **given):
    return trace(png or made_png(), "x.png", Checkout(root), **given)


class TestCheckout:
    """What is here, what is another one, what is nowhere."""

    def test_an_empty_folder_has_nothing(self, tmp_path):
        standing = traced(tmp_path).standing
        assert {found.has for found in standing.values()} == {"absent"}
        assert set(standing) == {"decoder", "prior", "store", "dataset", "dvc_lock", "commit"}

    def test_what_is_not_known_of_the_prior_is_not_looked_for(self, tmp_path):
        names = ("store_hash", "dataset_digest", "eclipse.dvc_lock", "eclipse.git.commit")
        png = made_png(served=made_served(**dict.fromkeys(names)))
        assert set(traced(tmp_path, png).standing) == {"decoder", "prior"}
        assert "not known of this prior" in tell(traced(tmp_path, png), "x.png")

    @pytest.mark.parametrize("place", ["artifacts/selected", "artifacts/subjects/priors/lambda-0-0", "releases"])
    def test_a_prior_is_found_by_its_content(self, tmp_path, place):
        folder = tmp_path / ("new" if place == "releases" else place)
        hash_ = make_prior(folder)
        if place == "releases":
            Releases(tmp_path / "releases").add_prior(folder, {"name": NAME, "version": "1"})
            place = f"releases/priors/{hash_}"
        assert Checkout(tmp_path).prior(hash_) == tmp_path / place
        assert Checkout(tmp_path).prior("0" * 64) is None
        (tmp_path / place / "config.json").write_text("{}")
        assert Checkout(tmp_path).prior(hash_) is None

    def test_a_decoder_is_found_in_any_folder_of_frozen_models_or_by_reference(self, tmp_path):
        folder = tmp_path / "artifacts/frozen/decoder"
        folder.mkdir(parents=True)
        (folder / "weights").write_text("w")
        assert Checkout(tmp_path).decoder(tree_digest(folder)) == folder
        assert Checkout(tmp_path).decoder("0" * 64) is None
        reference = tmp_path / "releases/frozen/abc/decoder.json"
        files = {"model_index.json": "e" * 64}
        write_json(reference, {"source": "a/b", "revision": "c" * 40, "files": files})
        wanted = hashlib.sha256(f"model_index.json\0{'e' * 64}\n".encode()).hexdigest()
        assert Checkout(tmp_path).decoder(wanted) == reference

    def test_the_dataset_is_told_by_the_metric_files(self, tmp_path):
        path = tmp_path / "metrics/subjects/dataset.json"
        write_json(path, {"digest": "d" * 64})
        assert Checkout(tmp_path).dataset("d" * 64) == Standing("here", str(path))
        assert Checkout(tmp_path).dataset("e" * 64) == Standing("other", str(path))

    def test_a_store_of_no_known_form_is_another_one(self, tmp_path):
        write_json(tmp_path / "artifacts/store/header.json", {"version": 99})
        assert Checkout(tmp_path).store("5" * 64).has == "other"

    def test_the_lock_file_may_be_in_git_only(self, tmp_path):
        def git(*words):
            run = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@x", *words]
            return subprocess.run(run, check=True, capture_output=True, text=True).stdout.strip()

        lock = tmp_path / "dvc.lock"
        lock.write_text("one\n")
        first = sha256(lock)
        git("init", "-q")
        git("add", "dvc.lock")
        git("commit", "-qm", "one")
        commit = git("rev-parse", "HEAD")
        checkout = Checkout(tmp_path)
        assert checkout.lock(first, commit) == Standing("here", str(lock))
        assert checkout.commit(commit) == Standing("here", "checked out")
        lock.write_text("two\n")
        assert checkout.lock(first, None) == Standing("other", str(lock))
        assert checkout.lock(first, commit) == Standing("here", f"dvc.lock at commit {commit[:12]}")
        git("commit", "-qam", "two")
        assert checkout.commit(commit) == Standing("here", "in git")
        assert checkout.commit(COMMIT) == Standing("absent")


class TestRoles:
    def test_the_releases_tell_what_the_prior_is_now(self, tmp_path):
        entry = Entry("3", "1" * 64, "2026-01-01T00:00:00+00:00")
        other = Entry("4", "9" * 64, "2026-01-01T00:00:00+00:00")
        releases = Releases(tmp_path / "releases")
        releases.write_state(State(1, "4" * 64, {NAME: Model("eclipse", champion=other, previous=entry)}))
        chain = traced(tmp_path)
        assert chain.roles == {"releases": ("previous",)}
        assert "now previous (releases)" in tell(chain, "x.png")

    def test_without_releases_and_mlflow_nobody_tells(self, tmp_path):
        assert traced(tmp_path).roles == {}
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(("hash_", "told"), [("1" * 64, {"MLflow": ("champion",)}), ("9" * 64, {})])
    def test_mlflow_counts_only_for_the_very_prior(self, tmp_path, monkeypatch, hash_, told):
        class Answers:
            def get(self, name, version):
                return registry.Version(name, version, {"eclipse.prior_hash": hash_}, ("champion",), "run")

        monkeypatch.setattr(registry, "Registry", Answers)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        assert traced(tmp_path).roles == told

    def test_a_server_that_does_not_answer_is_passed_over(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        assert traced(tmp_path).roles == {}

    def test_a_store_in_the_folder_is_asked(self, tmp_path, monkeypatch):
        def refuse():
            raise EclipseError("asked")

        monkeypatch.setattr(registry, "Registry", refuse)
        assert roles_module.registered_version(_prior(), tmp_path) is None
        (tmp_path / "mlflow.db").touch()
        monkeypatch.setattr(registry, "Registry", lambda: pytest.fail("asked"))
        with pytest.raises(pytest.fail.Exception, match="asked"):
            roles_module.registered_version(_prior(), tmp_path)


def _prior():
    return read_provenanced(made_png(), "x").said.prior


class TestFaults:
    def test_a_sound_picture_has_none(self, tmp_path):
        chain = traced(tmp_path, made_png(Signer(KEY, CREDENTIALS)), public_key=KEY.public_key())
        assert (chain.faults, chain.signature.state, chain.credentials.state) == ((), "valid", "Valid")

    def test_the_own_key_is_known_without_being_told(self, tmp_path, monkeypatch):
        (tmp_path / "key.pem").write_bytes(private_pem(KEY))
        monkeypatch.setenv("ECLIPSE_SIGNING_KEY", str(tmp_path / "key.pem"))
        assert traced(tmp_path, made_png(Signer(KEY))).signature.state == "valid"

    def test_another_or_no_key_is_a_fault_only_where_one_is_asked_for(self, tmp_path):
        other = Ed25519PrivateKey.generate().public_key()
        for png in (made_png(), made_png(Signer(KEY))):
            assert traced(tmp_path, png).faults == ()
            (fault,) = traced(tmp_path, png, public_key=other).faults
            assert "not signed by the key" in fault

    def test_a_signature_that_does_not_fit_is_one(self, tmp_path):
        texts = [
            data for kind, data in chunks(made_png(Signer(KEY), image=noise(5))) if data.startswith(b"eclipse.sig")
        ]
        parts = chunks(made_png())
        png = joined([*parts[:2], (b"iTXt", texts[0]), *parts[2:]])
        assert traced(tmp_path, png).faults == ("its signature does not fit its manifest",)

    def test_credentials_of_another_picture_are_two(self, tmp_path):
        signer = Signer(credentials=CREDENTIALS)
        stolen = dict(chunks(made_png(signer, image=noise(5))))[b"caBX"]
        parts = chunks(made_png())
        first, second = traced(tmp_path, joined([*parts[:1], (b"caBX", stolen), *parts[1:]])).faults
        assert first.startswith("its C2PA credentials are invalid (assertion.dataHash.mismatch")
        assert second == "its C2PA credentials hold another manifest"

    def test_a_picture_without_a_manifest_is_an_error(self, tmp_path):
        with pytest.raises(DataError, match="x.png: carries no manifest"):
            traced(tmp_path, encode_png(noise()))


class TestTold:
    def test_every_link_is_told(self, tmp_path):
        text = tell(traced(tmp_path, made_png(Signer(KEY, CREDENTIALS), source=made_prompt(edges=True))), "x.png")
        labels = [line.split()[0] for line in text.splitlines() if not line.startswith(" ")]
        assert labels == [
            "picture", "signature", "credentials", "made", "machine", "request", "decoder", "encoder", "prior",
            "training", "store", "dataset", "dvc.lock", "commit",
        ]  # fmt: skip
        for part in (
            "24 × 16, its pixels are those of its manifest", "unknown key", "C2PA Valid", "trainedAlgorithmicMedia",
            "“a red star left of a blue heart”", "subject “star” (characters 6 to 10)", "edges", "seed 7, 15 steps of",
            f"{NAME} version 3, champion of sequence-7", "eclipse-0.2: λ 0.2, steps 400, seed 0",
            "555555555555: not here",
        ):  # fmt: skip
            assert part in text

    def test_a_blend_is_told_with_both_prompts(self, tmp_path):
        text = tell(traced(tmp_path, made_png(source=Blend(Prompt("one"), Prompt("two"), 0.25))), "x.png")
        assert "0.25 of the way (slerp)" in text and "“one”" in text and "“two”" in text

    def test_a_prompt_cannot_move_the_terminal(self, tmp_path):
        chain = traced(tmp_path, made_png(source=Prompt("a\x1b[2Jb\u202ec\u009bd\ne λ")))
        text = tell(chain, "x.png")
        assert "“a\\u001b[2Jb\\u202ec\\u009bd\\u000ae λ”" in text
        assert tell_json(chain).isascii()

    def test_json_holds_all_of_it(self, tmp_path):
        value = json.loads(tell_json(traced(tmp_path, made_png(Signer(KEY, CREDENTIALS)))))
        assert set(value) == {"manifest", "signature", "credentials", "checkout", "roles", "faults"}
        assert value["manifest"]["prior"]["hash"] == "1" * 64
        assert value["signature"]["state"] == "unknown key"
        assert value["credentials"]["state"] == "Valid"
        assert value["checkout"]["decoder"] == {"has": "absent", "where": None}
