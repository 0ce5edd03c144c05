"""Exported priors, loaded by others: the authors' own reading of the files, and diffusers' own pipelines."""

import json
import re
from pathlib import Path

import pytest
import torch
from diffusers import KandinskyV22CombinedPipeline, KandinskyV22Pipeline, KandinskyV22PriorPipeline, PriorTransformer
from huggingface_hub import constants
from made_clips import as_open_clip, random_model
from made_decoder import make_decoder
from made_published import WIDTH, random_prior, write_published
from safetensors.torch import load_file
from upstream_reading import Upstream

from eclipse.config.frozen import HubParams
from eclipse.errors import CheckpointError
from eclipse.files import write_json
from eclipse.models.api import predict
from eclipse.models.checkpoint import load_prior, prior_meta, save_prior
from eclipse.models.clip import FrozenClip
from eclipse.models.clip_forms import import_clip
from eclipse.models.diffusion import freeze_statistics
from eclipse.models.one_pass import OnePassPrior
from eclipse.models.prior import EclipsePrior, seeded_noise
from eclipse.releases.export import to_diffusers, to_upstream
from eclipse.releases.imported import import_prior

CAPTIONS = ["a red star", "", "two pink striped hearts above a white cross, on a beige background!"]
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    model = random_model(text={"hidden_size": WIDTH, "intermediate_size": 80})
    import_clip(str(as_open_clip(model, folder / "in")), None, folder / "frozen/clip", logit_scale=None)
    make_decoder(folder / "frozen/decoder", WIDTH)
    return folder / "frozen"


@pytest.fixture(scope="module")
def clip(clip_folder):
    return FrozenClip.load(clip_folder / "clip", device="cpu")


@pytest.fixture(autouse=True, scope="module")
def _modules(tmp_path_factory):
    """Where diffusers copies code that folders bring: not this person's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        cache = str(tmp_path_factory.mktemp("modules"))
        patch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", cache)
        yield


@pytest.fixture(params=[3, 4], ids=["eclipse", "lambda-eclipse"])
def saved(request, tmp_path, clip):
    """A prior as ``select`` leaves it, and what our own code predicts with it."""
    prior = random_prior(request.param)
    hash_ = save_prior(prior, tmp_path / "prior")
    lineage = {"prior_hash": hash_, "encoder_hash": clip.weights_hash, "point": "eclipse-0.2", "lam": 0.2}
    write_json(tmp_path / "prior/training.json", lineage)
    (tmp_path / "prior/README.md").write_text(
        "---\nlicense: apache-2.0\n---\n\n# eclipse-0.2-0\n\n## Selection\n\nr1 0.9\n"
    )
    return prior, tmp_path / "prior"


def ours(prior, clip, control=None):
    text = clip.encode_text(clip.tokenize(CAPTIONS))
    if prior.embedding_control is not None and control is None:
        control = clip.encode_nothing()
    control = None if control is None else control.expand(len(CAPTIONS), -1)
    return predict(prior, text, seeds=range(len(CAPTIONS)), control_embeds=control)


def padded(clip):
    text = clip.encode_text(clip.tokenize(CAPTIONS))
    mask = torch.arange(77) < text.lengths[:, None]
    states = torch.randn(len(CAPTIONS), 77, WIDTH)  # what stands at padding has to be masked
    states[mask] = text.text_states
    return text.prompt_embeds, states, mask


@torch.no_grad()
def test_the_authors_reading_gives_equal_embeddings(saved, clip, tmp_path):
    prior, folder = saved
    to_upstream(folder, tmp_path / "out")
    theirs = Upstream(tmp_path / "out")
    pooled, states, mask = padded(clip)
    noise = seeded_noise(range(len(CAPTIONS)), WIDTH)
    control = torch.randn(1, WIDTH) if theirs.control else None
    found = theirs(noise, pooled, states, mask, None if control is None else control.expand(len(CAPTIONS), -1))
    torch.testing.assert_close(found, ours(prior, clip, control), atol=2e-5, rtol=1e-4)


def test_export_and_import_are_a_round_trip(saved, clip_folder, tmp_path):
    prior, folder = saved
    to_upstream(folder, tmp_path / "out")
    models = {"encoder": {"repo": str(clip_folder / "clip")}, "decoder": {"repo": str(clip_folder / "decoder")}}
    back, lineage = import_prior(
        str(tmp_path / "out"), None, frozen=HubParams.model_validate(models), out=tmp_path / "back", name="x"
    )
    assert_equal(load_file(back / "prior" / WEIGHTS), prior.state_dict())
    assert lineage["imported"]["source"] == str(tmp_path / "out")
    to_upstream(back / "prior", tmp_path / "again")
    assert (tmp_path / "again/config.json").read_bytes() == (tmp_path / "out/config.json").read_bytes()
    assert_equal(load_file(tmp_path / "again" / WEIGHTS), load_file(tmp_path / "out" / WEIGHTS))


def assert_equal(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(value, b[key]) and value.dtype == b[key].dtype for key, value in a.items())


def test_the_published_form_comes_out_as_it_came_in(tmp_path):
    write_published(random_prior(4), tmp_path / "published")
    to_upstream(tmp_path / "published", tmp_path / "out")
    configs = [json.loads((tmp_path / x / "config.json").read_text()) for x in ("published", "out")]
    assert {**configs[0], "_diffusers_version": ""} == {**configs[1], "_diffusers_version": ""}
    assert_equal(load_file(tmp_path / "published" / WEIGHTS), load_file(tmp_path / "out" / WEIGHTS))


def test_the_card_tells_use_origin_and_figures(saved, clip_folder, tmp_path):
    prior, folder = saved
    to_upstream(folder, tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    module = "lambda_prior_transformer" if prior.embedding_control is not None else "src.priors.prior_transformer"
    assert card.startswith("---\nlicense: apache-2.0") and "r1 0.9" in card and module in card
    assert prior_meta(tmp_path / "out")["encoder_hash"]
    models = {"encoder": {"repo": str(clip_folder / "clip")}, "decoder": {"repo": str(clip_folder / "decoder")}}
    back, _ = import_prior(
        str(tmp_path / "out"), None, frozen=HubParams.model_validate(models), out=tmp_path / "b", name="x"
    )
    to_upstream(back / "prior", tmp_path / "again")
    card = (tmp_path / "again/README.md").read_text()
    assert "license: other" in card and "not trained on" in card and "imported.files" in card


@pytest.mark.parametrize("to", ["upstream", "diffusers"])
def test_an_export_names_folders_and_not_their_places(saved, clip_folder, tmp_path, to):
    """All that is imported here is from folders of this machine; where they lie is nobody's business."""
    _, folder = saved
    to_upstream(folder, tmp_path / "the-prior")
    models = {"encoder": {"repo": str(clip_folder / "clip")}, "decoder": {"repo": str(clip_folder / "decoder")}}
    given = HubParams.model_validate(models)
    back, lineage = import_prior(str(tmp_path / "the-prior"), None, frozen=given, out=tmp_path / "back", name="x")
    # As imports were recorded before: the CLIP's name was its place, too.
    write_json(back / "prior/training.json", {**lineage, "encoder": str(clip_folder / "clip")})
    out = tmp_path / "out"
    to_upstream(back / "prior", out) if to == "upstream" else to_diffusers(back / "prior", back / "frozen", out)
    for path in (path for path in out.rglob("*") if path.is_file()):
        assert not re.search(str(tmp_path.parent).encode(), path.read_bytes()), path
        assert str(clip_folder).encode() not in path.read_bytes(), path
    card = (out / "README.md").read_text()
    assert "# the-prior" in card and "The weights are those of the-prior, converted" in card
    assert "| imported.decoder | decoder |" in card and "| encoder | clip |" in card
    assert "None" not in card and "local" not in card
    told = prior_meta(out if to == "upstream" else out / "prior")
    assert told["imported"]["source"] == "the-prior" and "revision" not in told["imported"]


def test_an_export_names_repositories_and_commits(saved, tmp_path):
    _, folder = saved
    commit = "0123456789" * 4
    imported = {"source": "a/b", "revision": commit, "decoder": f"c/d@{commit}"}
    write_json(folder / "training.json", {"encoder": f"e/f@{commit}", "imported": imported})
    (folder / "README.md").unlink()
    to_upstream(folder, tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    assert f"those of a/b@{commit}," in card and f"| e/f@{commit} |" in card and f"| c/d@{commit} |" in card
    told = prior_meta(tmp_path / "out")
    assert told.pop("prior_hash") and told == {"encoder": f"e/f@{commit}", "imported": imported}


# diffusers.


@pytest.fixture
def pipeline(saved, clip_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    prior, folder = saved
    to_diffusers(folder, clip_folder, tmp_path / "pipeline")
    return prior, tmp_path / "pipeline"


def load(folder):
    pipe = KandinskyV22PriorPipeline.from_pretrained(folder, trust_remote_code=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_diffusers_own_pipeline_gives_equal_embeddings(pipeline, clip):
    prior, folder = pipeline
    pipe = load(folder)
    noise = seeded_noise(range(len(CAPTIONS)), WIDTH)
    found = pipe(list(CAPTIONS), latents=noise, guidance_scale=1.0)
    torch.testing.assert_close(found.image_embeds, ours(prior, clip), atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(found.negative_image_embeds, clip.encode_nothing().expand(3, -1), atol=1e-5, rtol=1e-5)
    parts = {"prior", "scheduler", "text_encoder", "image_encoder", "tokenizer", "image_processor"}
    assert {path.name for path in folder.iterdir()} == parts | {"README.md", "model_index.json"}


def test_steps_mean_nothing_and_guidance_is_refused(pipeline):
    _, folder = pipeline
    pipe = load(folder)
    noise = seeded_noise([7], WIDTH)
    one, many = (pipe("a", latents=noise, guidance_scale=1.0, num_inference_steps=n).image_embeds for n in (1, 50))
    assert torch.equal(one, many)
    with pytest.raises(ValueError, match="prior_guidance_scale=1.0"):
        pipe("a", latents=noise)


@pytest.mark.slow
def test_the_documented_snippet_draws(pipeline, clip_folder, monkeypatch):
    """The one in docs/checkpoints.md, word for word, with tiny models."""
    _, folder = pipeline
    text = (Path(__file__).parents[2] / "docs/checkpoints.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?KandinskyV22CombinedPipeline.*?)```", text, re.S)
    for name, path in (("OUT/", folder), ("kandinsky-community/kandinsky-2-2-decoder", clip_folder / "decoder")):
        assert f'"{name}"' in snippet
        snippet = snippet.replace(f'"{name}"', f'"{path}"')
    monkeypatch.chdir(folder)
    found = {}
    exec(snippet, found)
    assert isinstance(found["pipe"], KandinskyV22CombinedPipeline) and isinstance(
        found["decoder"], KandinskyV22Pipeline
    )
    assert found["image"].size == (64, 64)


def test_the_pictures_control_can_be_given(tmp_path, clip, clip_folder, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    prior, control = random_prior(4), torch.randn(1, WIDTH)
    save_prior(prior, tmp_path / "prior")
    to_diffusers(tmp_path / "prior", clip_folder, tmp_path / "pipeline")
    pipe = load(tmp_path / "pipeline")
    pipe.prior.no_control.copy_(control)
    noise = seeded_noise(range(len(CAPTIONS)), WIDTH)
    found = pipe(list(CAPTIONS), latents=noise, guidance_scale=1.0).image_embeds
    torch.testing.assert_close(found, ours(prior, clip, control), atol=2e-5, rtol=1e-4)


def test_the_copied_class_has_the_priors_weights():
    for tokens in (3, 4):
        with torch.device("meta"):
            copied, own = OnePassPrior(additional_embeddings=tokens), EclipsePrior(additional_embeddings=tokens)
        shapes = {key: value.shape for key, value in copied.state_dict().items()}
        assert ("no_control" in shapes) == (tokens == 4)
        shapes.pop("no_control", None)
        assert shapes == {key: value.shape for key, value in own.state_dict().items()}


def test_the_copied_file_needs_no_other_of_ours(pipeline):
    _, folder = pipeline
    for name in ("prior", "scheduler"):
        assert not re.search(r"^\s*(from|import) eclipse", (folder / name / "one_pass.py").read_text(), re.M)


# What is refused.


def test_another_clip_is_refused(saved, clip_folder, tmp_path):
    _, folder = saved
    write_json(folder / "training.json", {"encoder_hash": "0" * 64})
    with pytest.raises(CheckpointError, match="was made for 000000000000; give its own by --frozen"):
        to_diffusers(folder, clip_folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_clip_of_other_widths_is_refused_where_no_hash_tells(clip_folder, tmp_path):
    """A prior in the published form has no training.json; diffusers would only fail once it draws."""
    write_published(random_prior(4, width=24), tmp_path / "published")
    message = "made for embeddings 24 and text states 24 wide, but .* has 20 and 20; give its own by --frozen"
    with pytest.raises(CheckpointError, match=message):
        to_diffusers(tmp_path / "published", clip_folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_widths_have_no_upstream_form(tmp_path):
    save_prior(EclipsePrior(12, 10, num_layers=1, num_attention_heads=2, attention_head_dim=8), tmp_path / "prior")
    with pytest.raises(CheckpointError, match="embeddings are 12 and text states 10 wide"):
        to_upstream(tmp_path / "prior", tmp_path / "out")


def test_a_diffusion_prior_is_refused(tmp_path, clip_folder):
    prior = freeze_statistics(PriorTransformer(2, 8, num_layers=1, embedding_dim=WIDTH))
    save_prior(prior, tmp_path / "prior")
    assert load_prior(tmp_path / "prior")
    exports = (
        lambda: to_upstream(tmp_path / "prior", tmp_path / "out"),
        lambda: to_diffusers(tmp_path / "prior", clip_folder, tmp_path / "out"),
    )
    for export in exports:
        with pytest.raises(CheckpointError, match="is a diffusion prior"):
            export()
