import json
import shutil
from dataclasses import replace

import pytest
from made_releases import ENCODER, NAMES, make_frozen, make_prior, registered

from eclipse.errors import CheckpointError, EclipseError
from eclipse.files import tree_digest, write_json
from eclipse.releases import Entry, Model, Releases, resolve, signature
from eclipse.releases.candidate import offer

NAME, OTHER = NAMES["eclipse"], NAMES["lambda-eclipse"]


@pytest.fixture(autouse=True)
def _no_releases_named(monkeypatch):
    monkeypatch.delenv("ECLIPSE_RELEASES", raising=False)


@pytest.fixture
def checked_out(tmp_path):
    root = tmp_path / "repository"
    make_prior(root / "artifacts/selected")
    make_prior(root / "artifacts/subjects/selected", variant="lambda-eclipse")
    make_frozen(root / "artifacts/frozen")
    digests = {name: tree_digest(root / "artifacts/frozen" / name) for name in ("clip", "decoder", "oracle")}
    write_json(root / "metrics/frozen.json", digests)
    return root


def promote(root, seed, *, variant="eclipse", version="1", encoder=ENCODER, folder="releases"):
    releases = Releases(root / folder)
    hash_ = make_prior(root / "made", seed, variant=variant, encoder=encoder)
    releases.add_prior(root / "made", registered(version, variant))
    frozen = releases.add_frozen(root / "artifacts/frozen")
    state = releases.state()
    model = replace(state.models.get(NAMES[variant], Model(variant)), champion=Entry(version, hash_, "now", frozen))
    releases.write_state(state.following(NAMES[variant], model, frozen=frozen))
    return hash_


def test_where_nothing_was_promoted_the_checked_out_state_is_served(checked_out):
    served = resolve(checked_out)
    assert served.release == "unpromoted"
    assert [(prior.model, prior.variant, prior.role, prior.version) for prior in served.priors] == [
        (NAME, "eclipse", "champion", None),
        (OTHER, "lambda-eclipse", "champion", None),
    ]
    assert served.clip == checked_out / "artifacts/frozen/clip" and served.encoder_hash == ENCODER
    assert served.decoder_hash == tree_digest(served.decoder)
    assert served.priors[0].lineage["dataset_digest"] == "d" * 64


def test_one_variant_is_enough(checked_out):
    shutil.rmtree(checked_out / "artifacts/subjects")
    assert [prior.variant for prior in resolve(checked_out).priors] == ["eclipse"]


def test_the_champion_goes_before_the_checked_out_state(checked_out):
    hash_ = promote(checked_out, 5, version="3")
    served = resolve(checked_out)
    assert served.release == "sequence-1"
    (prior,) = served.priors
    assert (prior.model, prior.prior_hash, prior.version) == (NAME, hash_, "3")
    assert prior.folder == checked_out / "releases/priors" / hash_
    assert prior.lineage["eclipse.git.commit"] == "f" * 40 and prior.lineage["registered.version"] == "3"
    assert served.clip.parent.name == served.frozen_digest


def test_the_environment_names_other_releases(checked_out, monkeypatch):
    promote(checked_out, 5)
    elsewhere = promote(checked_out, 6, folder="elsewhere")
    monkeypatch.setenv("ECLIPSE_RELEASES", str(checked_out / "elsewhere"))
    assert resolve(checked_out).priors[0].prior_hash == elsewhere
    monkeypatch.setenv("ECLIPSE_RELEASES", str(checked_out / "nowhere"))
    with pytest.raises(EclipseError, match="nowhere.*names no champion.*promote"):
        resolve(checked_out)


def test_nothing_to_serve_is_told_with_the_remedy(tmp_path):
    with pytest.raises(EclipseError, match=r"artifacts/selected: no such folder.*make demo"):
        resolve(tmp_path)


def test_champion_and_candidate_are_served_side_by_side(checked_out):
    promote(checked_out, 5)
    make_prior(checked_out / "made", 6)
    assert offer(Releases(checked_out / "releases"), checked_out / "made", registered("2"))
    before = (checked_out / "releases/state.json").read_text()
    assert not offer(Releases(checked_out / "releases"), checked_out / "made", registered("2"))
    assert not offer(Releases(checked_out / "releases"), checked_out / "made", registered("1"))
    assert (checked_out / "releases/state.json").read_text() == before
    assert [(prior.model, prior.role, prior.version) for prior in resolve(checked_out).priors] == [
        (NAME, "champion", "1"),
        (f"{NAME}@candidate", "candidate", "2"),
    ]


@pytest.mark.parametrize("fault", ["damaged", "another CLIP"])
def test_a_candidate_that_does_not_fit_does_not_stop_the_champion(checked_out, fault, caplog):
    promote(checked_out, 5)
    hash_ = make_prior(checked_out / "made", 6, encoder="e" * 64 if fault == "another CLIP" else ENCODER)
    offer(Releases(checked_out / "releases"), checked_out / "made", registered("2"))
    if fault == "damaged":
        (checked_out / "releases/priors" / hash_ / "config.json").write_text("{}")
    assert [prior.role for prior in resolve(checked_out).priors] == ["champion"]
    assert "is not served" in caplog.text


def test_a_candidate_alone_leaves_the_checked_out_state_in_force(checked_out):
    offer(Releases(checked_out / "releases"), checked_out / "artifacts/selected", registered("1"))
    assert resolve(checked_out).release == "unpromoted"


def promoted_files(root):
    promote(root, 5)
    served = resolve(root)
    return [served.priors[0].folder / "config.json", served.priors[0].folder / "training.json",
            served.clip / "weights.safetensors", served.decoder / "unet/weights.safetensors"]  # fmt: skip


@pytest.mark.parametrize("number", range(4))
def test_every_promoted_file_is_checked(checked_out, number):
    file = promoted_files(checked_out)[number]
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(CheckpointError, match=str(checked_out / "releases")):
        resolve(checked_out)


@pytest.mark.parametrize("name", ["artifacts/selected/config.json", "artifacts/frozen/clip/weights.safetensors"])
def test_every_checked_out_file_is_checked(checked_out, name):
    file = checked_out / name
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(CheckpointError, match=str(file.parent)):
        resolve(checked_out)


def test_priors_of_two_clips_are_not_served_together(checked_out):
    promote(checked_out, 5)
    promote(checked_out, 6, variant="lambda-eclipse", encoder="e" * 64)
    with pytest.raises(CheckpointError, match="several CLIPs"):
        resolve(checked_out)


def test_the_signature_changes_with_what_is_served_and_else_not(checked_out):
    first = signature(checked_out)
    resolve(checked_out)
    assert signature(checked_out) == first
    make_prior(checked_out / "artifacts/selected", 9)
    second = signature(checked_out)
    promote(checked_out, 5)
    third = signature(checked_out)
    promote(checked_out, 5)
    assert len({first, second, third, signature(checked_out)}) == 4


def test_a_bundle_with_a_changed_file_is_refused(checked_out):
    promote(checked_out, 5)
    (checked_out / "code.py").write_text("a = 1\n")
    from eclipse.releases.manifest import list_files

    write_json(checked_out / "bundle.json", {"files": list_files(checked_out)})
    assert resolve(checked_out).release == "sequence-1"
    assert "releases/state.json" in json.loads((checked_out / "bundle.json").read_text())["files"]
    (checked_out / "code.py").write_text("a = 2\n")
    with pytest.raises(CheckpointError, match=r"code\.py: not the file that was bundled"):
        resolve(checked_out)
    (checked_out / "code.py").unlink()
    with pytest.raises(CheckpointError, match=r"code\.py: missing"):
        resolve(checked_out)
