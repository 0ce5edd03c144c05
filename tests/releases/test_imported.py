"""Published priors from a local cache to what a server loads and draws."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from diffusers import PriorTransformer
from huggingface_hub import constants
from made_cache import REVISION, put
from made_clips import as_transformers, random_model
from made_decoder import make_decoder
from made_decoders import make_karlo
from made_published import WIDTH, random_prior, write_published
from made_releases import make_frozen, make_prior
from safetensors.torch import load_file, save_file

from eclipse.config.frozen import HubParams
from eclipse.errors import CheckpointError
from eclipse.files import read_json, sha256
from eclipse.models import published
from eclipse.models.api import predict
from eclipse.models.checkpoint import load_prior, prior_hash
from eclipse.models.clip import FrozenClip
from eclipse.models.diffusion import freeze_statistics
from eclipse.models.prior import EclipsePrior
from eclipse.models.published import PRIORS
from eclipse.releases import resolve, signature
from eclipse.releases.imported import import_prior
from eclipse.serve.engine import load_priors
from eclipse.serve.load import load_frozen

KARLO, TEXT, SUBJECTS = PRIORS


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What a machine that fetched the weights has in its cache: priors, CLIP and decoder, each tiny."""
    folder = tmp_path_factory.mktemp("made")
    clip = random_model("gelu", text={"hidden_size": WIDTH, "intermediate_size": 80})
    put(folder / "hub", TEXT.encoder.repo, as_transformers(clip, folder / "clip"), TEXT.encoder.revision)
    put(folder / "hub", TEXT.decoder.repo, make_decoder(folder / "decoder", WIDTH), TEXT.decoder.revision)
    put(folder / "hub", TEXT.repo, write_published(random_prior(3), folder / "text"))
    put(folder / "hub", SUBJECTS.repo, write_published(random_prior(4), folder / "subjects"))
    return folder


@pytest.fixture
def root(made, tmp_path, monkeypatch):
    """A folder to serve from."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(made / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.delenv("ECLIPSE_RELEASES", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def take(source, revision=REVISION, **given):
    return import_prior(str(source), revision, **{"frozen": None, "out": None, "name": "mine", **given})


def local(made):
    return HubParams.model_validate(
        {"encoder": {"repo": str(made / "clip")}, "decoder": {"repo": str(made / "decoder")}}
    )


@pytest.mark.parametrize("which", [TEXT, SUBJECTS], ids=["eclipse", "lambda-eclipse"])
def test_a_published_prior_is_imported_and_served(root, made, which):
    folder, lineage = take(which.repo)
    assert str(folder) == f"artifacts/imported/{which.kind}"
    served = resolve(root)
    (entry,) = served.priors
    assert served.release == "imported" and entry.role == "champion" and entry.version is None
    assert entry.model == f"eclipse-prior-{which.kind}-kandinsky" and entry.variant == which.kind
    assert entry.lineage["imported.source"] == which.repo and entry.lineage["imported.revision"] == REVISION
    clip, decoder = load_frozen(served)
    prior = load_priors(served, clip)[entry.model].prior
    theirs = load_file(made / ("text" if which is TEXT else "subjects") / "diffusion_pytorch_model.safetensors")
    assert prior.state_dict().keys() == theirs.keys()
    assert all(torch.equal(value, theirs[key]) for key, value in prior.state_dict().items())
    captions = clip.encode_text(clip.tokenize(["a red star"]))
    control = None if which is TEXT else clip.encode_nothing()
    embeds = predict(prior, captions, seeds=[0], control_embeds=control)
    pictures = decoder.decode(embeds, seeds=[0], steps=2, guidance=2.0, negative_embeds=clip.encode_nothing())
    assert pictures.shape == (1, 64, 64, 3) and pictures.std() > 0
    assert lineage["encoder_hash"] == clip.weights_hash == served.encoder_hash


def test_the_record_says_where_it_comes_from_and_not_that_it_was_trained_here(root, made):
    folder, _ = take(TEXT.repo)
    lineage = read_json(folder / "prior/training.json")
    assert lineage["imported"]["files"] == {
        name: sha256(made / "text" / name) for name in ("config.json", "diffusion_pytorch_model.safetensors")
    }
    assert lineage["imported"]["decoder"] == f"{TEXT.decoder.repo}@{TEXT.decoder.revision}"
    assert lineage["prior_hash"] == prior_hash(folder / "prior")
    assert not {"point", "seed", "lam", "method", "dataset_digest", "train_params"} & set(lineage)
    assert read_json(folder / "frozen/decoder.json")["revision"] == TEXT.decoder.revision
    assert FrozenClip.load(folder / "frozen/clip", device="cpu").weights_hash == lineage["encoder_hash"]


def test_two_of_one_clip_are_served_together_and_share_its_bytes(root):
    first, _ = take(TEXT.repo)
    second, _ = take(SUBJECTS.repo)
    assert [prior.variant for prior in resolve(root).priors] == ["eclipse", "lambda-eclipse"]
    weights = [folder / "frozen/clip/open_clip_model.safetensors" for folder in (first, second)]
    assert weights[0].samefile(weights[1]), "ten gigabytes at full size"


def test_two_of_different_frozen_models_are_not_served_together(root, made):
    take(TEXT.repo)
    take(SUBJECTS.repo, frozen=local(made))
    with pytest.raises(CheckpointError, match=r"imported for different frozen models.*remove one"):
        resolve(root)


def test_promoted_goes_before_imported_and_imported_before_checked_out(root):
    make_prior(root / "artifacts/selected")
    make_frozen(root / "artifacts/frozen")
    before = signature(root)
    assert resolve(root).release == "unpromoted"
    take(TEXT.repo)
    assert resolve(root).release == "imported" and signature(root) != before
    from dataclasses import replace

    from eclipse.releases import Entry, Model, Releases

    releases = Releases(root / "releases")
    hash_ = releases.add_prior(root / "artifacts/selected", {"name": "a", "version": "1", "variant": "eclipse"})
    frozen = releases.add_frozen(root / "artifacts/frozen")
    model = replace(Model("eclipse"), champion=Entry("1", hash_, "now", frozen))
    releases.write_state(releases.state().following("a", model, frozen=frozen))
    assert resolve(root).release == "sequence-1"


def test_a_changed_import_is_refused(root):
    folder, _ = take(TEXT.repo)
    (folder / "prior/config.json").write_text((folder / "prior/config.json").read_text() + " ")
    with pytest.raises(CheckpointError, match="import it again"):
        resolve(root)


def test_folders_are_sources_too(root, made):
    folder, lineage = take(made / "text", None, frozen=local(made), out=root / "elsewhere")
    assert folder == root / "elsewhere" and (folder / "frozen/decoder/unet/config.json").is_file()
    assert lineage["imported"]["decoder_name"] == "mine" and lineage["imported"]["revision"] is None


def test_given_frozen_models_of_another_width_are_not_taken(root):
    """A profile of Karlo's in params.yaml, and a prior for Kandinsky: its own models, not that profile's."""
    karlo = {"encoder": {"repo": KARLO.encoder.repo, "revision": "0" * 40}, "decoder": {"repo": "a/b"}}
    _, lineage = take(TEXT.repo, frozen=HubParams.model_validate(karlo))
    assert lineage["imported"]["decoder"].startswith(TEXT.decoder.repo)


# What is refused.


def test_a_revision_is_asked_for(root):
    with pytest.raises(CheckpointError, match=f"write the full commit of {TEXT.repo}") as error:
        take(TEXT.repo, None)
    assert f"https://huggingface.co/{TEXT.repo}/commits/main" in str(error.value)
    assert str(error.value).endswith(f": python -m eclipse import-prior {TEXT.repo} --revision COMMIT")


def test_a_missing_prior_is_named_with_what_to_run(root):
    with pytest.raises(CheckpointError, match=f"{KARLO.repo}@{REVISION}.*hf download {KARLO.repo}"):
        take(KARLO.repo)


def test_a_missing_clip_is_named_with_what_to_run(root, made, monkeypatch, tmp_path):
    shutil.copytree(made / "hub", tmp_path / "hub", symlinks=True)
    shutil.rmtree(tmp_path / "hub" / f"models--{TEXT.encoder.repo.replace('/', '--')}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(CheckpointError, match=f"{TEXT.encoder.repo}@{TEXT.encoder.revision}.*hf download"):
        take(TEXT.repo)
    assert not (root / "artifacts/imported/eclipse").exists()


def in_slot(monkeypatch, root, made, kind, folder):
    """Import ``folder`` under the name of the published prior of ``kind``."""
    slot = TEXT if kind == "eclipse" else SUBJECTS
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(root / "hub"))
    put(root / "hub", slot.repo, folder)
    return take(slot.repo)


def test_a_prior_with_a_control_token_in_an_eclipse_slot_is_refused(root, made, monkeypatch):
    with pytest.raises(CheckpointError, match="kind lambda-eclipse, but eclipse is needed.*control token"):
        in_slot(monkeypatch, root, made, "eclipse", made / "subjects")


def test_an_eclipse_prior_in_the_slot_of_subjects_is_refused(root, made, monkeypatch):
    with pytest.raises(CheckpointError, match="kind eclipse, but lambda-eclipse is needed.*no control token"):
        in_slot(monkeypatch, root, made, "lambda-eclipse", made / "text")


def test_control_weights_under_the_config_of_none_are_refused(root, made):
    write_published(random_prior(4), root / "odd", additional_embeddings=3)
    with pytest.raises(CheckpointError, match=r"unexpected embedding_control.*a λ-ECLIPSE prior with a control token"):
        take(root / "odd", None, frozen=local(made))
    write_published(random_prior(3), root / "odd", additional_embeddings=4)
    with pytest.raises(CheckpointError, match="has no time token"):
        take(root / "odd", None, frozen=local(made))


def kandinskys_own(folder):
    """Kandinsky's 1B prior but for its size: diffusers' own class, with its time token."""
    torch.manual_seed(0)
    prior = PriorTransformer(2, 8, num_layers=2, embedding_dim=WIDTH)
    freeze_statistics(prior).save_pretrained(folder)
    return folder


def test_kandinskys_own_prior_is_refused_with_the_reason(root, made):
    with pytest.raises(CheckpointError, match="is a diffusion prior, whose time token"):
        take(kandinskys_own(root / "prior"), None, frozen=local(made))
    with pytest.raises(CheckpointError, match="kind diffusion, but eclipse is needed"):
        load_prior(root / "prior", kind="eclipse")
    kandinskys_own(root / "pipeline/prior")
    (root / "pipeline/model_index.json").write_text(json.dumps({"_class_name": "KandinskyV22PriorPipeline"}))
    with pytest.raises(CheckpointError, match="is a pipeline, and its prior/ is a PriorTransformer with 2 layers"):
        take(root / "pipeline", None, frozen=local(made))


def broken(root, made, change):
    shutil.copytree(made / "text", root / "broken")
    change(root / "broken")
    return root / "broken"


def drop(folder, key):
    state = load_file(folder / "diffusion_pytorch_model.safetensors")
    save_file({k: v for k, v in state.items() if k != key}, folder / "diffusion_pytorch_model.safetensors")


def pickle(folder):
    (folder / "diffusion_pytorch_model.safetensors").rename(folder / "diffusion_pytorch_model.bin")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: drop(x, "norm_out.bias"), r"missing norm_out\.bias"),
        (pickle, "pickled only; these are never read"),
        (lambda x: (x / "config.json").unlink(), r"config\.json"),
        (lambda x: (x / "diffusion_pytorch_model.safetensors").write_bytes(b"x"), "cannot be read"),
    ],
)
def test_a_broken_source_is_refused_and_nothing_is_left(root, made, change, message):
    with pytest.raises(CheckpointError, match=message):
        take(broken(root, made, change), None, frozen=local(made), out=root / "out")
    assert not list(root.glob("*out*"))


def test_a_clip_of_other_widths_is_refused(root, made):
    write_published(random_prior(3, width=24), root / "wide")
    with pytest.raises(CheckpointError, match="made for embeddings 24 and text states 24 wide, but .* has 20 and 20"):
        take(root / "wide", None, frozen=local(made), out=root / "out")
    assert not (root / "out").exists()
    with pytest.raises(CheckpointError, match=r"no CLIP and decoder are known; set frozen\.hub"):
        take(root / "wide", None)


def test_karlos_decoder_has_to_be_pinned_by_the_person(root, made, monkeypatch):
    """No commit of it was found in public sources."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(root / "hub"))
    put(root / "hub", KARLO.repo, write_published(random_prior(3), root / "karlo"))
    with pytest.raises(CheckpointError, match=f"https://huggingface.co/{KARLO.decoder.repo}/commits/main") as error:
        take(KARLO.repo)
    command = f"python -m eclipse import-prior {KARLO.repo} --revision {REVISION} --decoder-revision COMMIT"
    assert str(error.value).endswith(command)
    with pytest.raises(CheckpointError, match="'main' may move"):
        take(KARLO.repo, decoder_revision="main")
    put(root / "hub", KARLO.encoder.repo, made / "clip", KARLO.encoder.revision)
    put(root / "hub", KARLO.decoder.repo, make_karlo(root / "decoder", WIDTH))
    _, lineage = take(KARLO.repo, decoder_revision=REVISION)
    assert lineage["imported"]["decoder"] == f"{KARLO.decoder.repo}@{REVISION}"
    served = resolve(root)
    assert served.priors[0].model == "eclipse-prior-eclipse-karlo" and load_frozen(served)[1].wants_text


def profile(name):
    """What the profile says of the published models."""
    told = yaml.safe_load((Path(__file__).parents[2] / f"conf/profile/{name}.yaml").read_text())
    return HubParams.model_validate(told["frozen"]["hub"])


def test_the_profile_that_pins_no_decoder_takes_the_persons(root, made, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(root / "hub"))
    put(root / "hub", KARLO.repo, write_published(random_prior(3), root / "karlo"))
    put(root / "hub", KARLO.encoder.repo, made / "clip", KARLO.encoder.revision)
    put(root / "hub", KARLO.decoder.repo, make_karlo(root / "decoder", WIDTH))
    given = profile("karlo")
    assert given.encoder.repo == KARLO.encoder.repo and given.decoder.revision is None
    # The tiny prior is 20 wide: only so does the published CLIP's own width fit it.
    monkeypatch.setattr("eclipse.releases.imported.encoder_width", lambda repo: WIDTH)
    _, lineage = take(KARLO.repo, frozen=given, decoder_revision=REVISION)
    assert lineage["imported"]["decoder"] == f"{KARLO.decoder.repo}@{REVISION}"
    assert read_json(root / "artifacts/imported/eclipse/frozen/decoder.json")["revision"] == REVISION


@pytest.mark.parametrize(
    ("part", "end"),
    [("decoder", "--decoder-revision COMMIT"), ("encoder", "--set frozen.hub.encoder.revision=COMMIT")],
)
def test_a_given_model_without_a_commit_is_refused_before_gigabytes_are_read(root, made, monkeypatch, part, end):
    monkeypatch.setattr("eclipse.models.clip_forms.import_clip", lambda *_, **__: pytest.fail("was converted"))
    given = {"encoder": {"repo": str(made / "clip")}, "decoder": {"repo": str(made / "decoder")}, part: {"repo": "a/b"}}
    with pytest.raises(CheckpointError, match="a/b: without a revision its files may move") as error:
        take(made / "text", None, frozen=HubParams.model_validate(given), out=root / "out")
    assert str(error.value).endswith(f"python -m eclipse import-prior {made / 'text'} {end}")
    assert not (root / "out").exists()


def test_a_folder_has_no_decoder_revision(root, made):
    with pytest.raises(CheckpointError, match="is a local folder, which has no revision"):
        take(made / "text", None, frozen=local(made), decoder_revision=REVISION, out=root / "out")


# The table.


@pytest.mark.parametrize("which", PRIORS, ids=lambda prior: prior.repo)
def test_the_tables_sizes_are_the_public_ones(which):
    tokens = 4 if which.kind == "lambda-eclipse" else 3
    with torch.device("meta"):
        prior = EclipsePrior(which.width, additional_embeddings=tokens)
    assert sum(value.numel() for value in prior.state_dict().values()) == which.parameters


def test_what_belongs_together_stands_together():
    assert [prior.parameters for prior in PRIORS] == [33_143_040, 34_193_152, 34_849_536]
    assert published.known_prior(SUBJECTS.repo) is SUBJECTS and published.known_prior("a/b") is None
    assert published.of_width(768) is KARLO and published.encoder_width(SUBJECTS.encoder.repo) == 1280
    for prior in PRIORS:
        assert prior.encoder.revision is not None and len(prior.encoder.revision) == 40
