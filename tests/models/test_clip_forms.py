"""The same CLIP in open_clip's, transformers' and our form: equal vectors, equal hash, and no other CLIP unseen."""

import json

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from made_cache import REVISION, put
from made_clips import SCALE, as_open_clip, as_pipeline, as_transformers, close, random_model, rewrite
from open_clip.model import CLIP
from safetensors.torch import load_file
from transformers import (
    CLIPImageProcessor,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)

from eclipse.errors import CheckpointError
from eclipse.models.clip import CONFIG, WEIGHTS, FrozenClip
from eclipse.models.clip_forms import SOURCE, import_clip
from eclipse.models.clip_forms_write import write_transformers

CAPTIONS = ["a red star", "", "two pink striped hearts above a white cross, on a beige background", "ünïcode 😀"]
MAKERS = {"open_clip": as_open_clip, "transformers": as_transformers, "pipeline": as_pipeline}


def scale_of(form):
    return SCALE if form == "pipeline" else None


@pytest.fixture(scope="module", params=["gelu", "quick_gelu"])
def forms(request, tmp_path_factory):
    """One CLIP published in each form, and imported from each."""
    model, folder = random_model(request.param), tmp_path_factory.mktemp(request.param)
    for form, make in MAKERS.items():
        make(model, folder / form)
        import_clip(str(folder / form), None, folder / f"{form}-imported", logit_scale=scale_of(form))
    return model, folder


@torch.no_grad()
def test_all_forms_give_equal_vectors(forms):
    model, folder = forms
    images = np.random.default_rng(0).integers(0, 256, (3, 56, 56, 3), np.uint8)
    theirs, _, _ = open_clip_model(folder / "open_clip")
    for form in MAKERS:
        clip = FrozenClip.load(folder / f"{form}-imported", device="cpu")
        tokens = clip.tokenize(CAPTIONS)
        ours, pixels = clip.encode_text(tokens), clip.preprocess(images)
        hidden = model.text_model(input_ids=tokens)
        real = torch.arange(77) < ours.lengths[:, None]
        close(ours.text_states, hidden.last_hidden_state[real])
        close(ours.prompt_embeds, model.text_projection(hidden.pooler_output))
        close(ours.prompt_embeds, theirs.encode_text(tokens))
        close(clip.encode_image(images), model.get_image_features(pixel_values=pixels).pooler_output)
        close(clip.encode_image(images), theirs.encode_image(pixels))
        assert clip.logit_scale == pytest.approx(SCALE, rel=1e-6)


def open_clip_model(folder):
    config = json.loads((folder / CONFIG).read_text())["model_cfg"]
    model = CLIP(**config).eval()
    model.load_state_dict(load_file(folder / WEIGHTS), strict=True)
    return model, config, None


def test_all_forms_have_one_hash(forms):
    _, folder = forms
    clips = [FrozenClip.load(folder / f"{form}-imported", device="cpu") for form in MAKERS]
    assert len({clip.weights_hash for clip in clips}) == 1
    assert len({clip.tokenizer_hash for clip in clips}) == 1
    assert len({(folder / f"{form}-imported" / WEIGHTS).read_bytes() for form in MAKERS}) == 1


@torch.no_grad()
def test_what_is_written_is_read_by_transformers_own_classes(forms, tmp_path):
    model, folder = forms
    write_transformers(folder / "open_clip-imported", tmp_path)
    text = CLIPTextModelWithProjection.from_pretrained(tmp_path / "text_encoder")
    vision = CLIPVisionModelWithProjection.from_pretrained(tmp_path / "image_encoder")
    for tower in (text, vision):
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in tower.state_dict().items())
    clip = FrozenClip.load(folder / "pipeline-imported", device="cpu")
    tokens = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")(CAPTIONS, padding="max_length", return_tensors="pt")
    ours = clip.encode_text(clip.tokenize(CAPTIONS))
    out = text(input_ids=tokens.input_ids)
    close(ours.prompt_embeds, out.text_embeds)
    close(ours.text_states, out.last_hidden_state[tokens.attention_mask.bool()])
    images = np.random.default_rng(1).integers(0, 256, (2, 56, 56, 3), np.uint8)
    pixels = CLIPImageProcessor.from_pretrained(tmp_path / "image_processor")(list(images), return_tensors="pt")
    close(clip.preprocess(images), pixels.pixel_values)
    close(clip.encode_image(images), vision(pixels.pixel_values).image_embeds)


def test_there_and_back_is_the_same_clip(forms, tmp_path):
    _, folder = forms
    write_transformers(folder / "open_clip-imported", tmp_path / "pipeline")
    import_clip(str(tmp_path / "pipeline"), None, tmp_path / "back", logit_scale=SCALE)
    for name in (WEIGHTS,):
        assert (tmp_path / "back" / name).read_bytes() == (folder / "open_clip-imported" / name).read_bytes()
    hashes = [FrozenClip.load(x, device="cpu").weights_hash for x in (tmp_path / "back", folder / "open_clip-imported")]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("pad", [0, 49407])
@torch.no_grad()
def test_padding_changes_no_vector(forms, pad):
    """Kandinsky's tokeniser pads with "!" (id 0), OpenAI's with end-of-text; what follows the end cannot matter."""
    model, folder = forms
    clip = FrozenClip.load(folder / "transformers-imported", device="cpu")
    tokens = clip.tokenize(CAPTIONS)
    ours = clip.encode_text(tokens)
    padded = torch.where(torch.arange(77) < ours.lengths[:, None], tokens, pad)
    for early_end in (2, 49407):  # what published configs name as the end: transformers pools by either
        model.text_model.eos_token_id = early_end
        hidden = model.text_model(input_ids=padded)
        close(ours.prompt_embeds, model.text_projection(hidden.pooler_output))
    again = clip.encode_text(padded)
    assert torch.equal(again.lengths, ours.lengths)
    close(again.text_states, ours.text_states)
    close(again.prompt_embeds, ours.prompt_embeds)


@pytest.mark.parametrize("form", MAKERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_keep_their_type(tmp_path, form, dtype):
    MAKERS[form](random_model(dtype=dtype), tmp_path / "in")
    import_clip(str(tmp_path / "in"), None, tmp_path / "out", logit_scale=scale_of(form))
    state = load_file(tmp_path / "out" / WEIGHTS)
    assert {value.dtype for key, value in state.items() if key != "logit_scale"} == {dtype}


def test_shards_are_one_clip(tmp_path):
    model = random_model()
    as_transformers(model, tmp_path / "one")
    as_transformers(model, tmp_path / "many", max_shard_size="200KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 1
    records = [import_clip(str(tmp_path / x), None, tmp_path / f"{x}-out", logit_scale=None) for x in ("one", "many")]
    assert (tmp_path / "one-out" / WEIGHTS).read_bytes() == (tmp_path / "many-out" / WEIGHTS).read_bytes()
    assert len(records[1]["files"]) > len(records[0]["files"])
    shard = sorted((tmp_path / "many").glob("*.safetensors"))[1]
    rewrite(shard, lambda state: dict(list(state.items())[1:]))
    with pytest.raises(CheckpointError, match=r"index\.json: it and its shards disagree"):
        import_clip(str(tmp_path / "many"), None, tmp_path / "out", logit_scale=None)


def test_a_repository_is_imported_from_the_cache_with_its_record(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    put(tmp_path / "hub", "some/clip", as_transformers(random_model(), tmp_path / "in"))
    record = import_clip("some/clip", REVISION, tmp_path / "out", logit_scale=None)
    assert record["source"] == "some/clip" and record["revision"] == REVISION and record["form"] == "transformers"
    assert set(record["files"]) >= {"config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"}
    assert json.loads((tmp_path / "out" / SOURCE).read_text()) == record
    assert FrozenClip.load(tmp_path / "out", device="cpu").name == f"some/clip@{REVISION}"
    with pytest.raises(CheckpointError, match="some/other@"):
        import_clip("some/other", REVISION, tmp_path / "out", logit_scale=None)


# What is refused.
