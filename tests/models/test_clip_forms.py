"""The same CLIP in open_clip's, transformers' and our form: equal vectors, equal hash, and no other CLIP unseen."""

import json
import math
import shutil

import numpy as np
import open_clip
import pytest
import torch
from huggingface_hub import constants
from made_cache import REVISION, put
from made_clips import SCALE, as_open_clip, as_pipeline, as_transformers, random_model, rewrite
from open_clip.model import CLIP
from safetensors.torch import load_file
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from eclipse.errors import CheckpointError
from eclipse.models.clip import CONFIG, WEIGHTS, FrozenClip, save_clip
from eclipse.models.clip_forms import SOURCE, import_clip
from eclipse.models.clip_forms_config import canonical
from eclipse.models.clip_forms_map import mlp_ratio, model_config, pairs, to_open_clip, to_transformers, tower_configs
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


def close(a, b):
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


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


def change_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_tower(folder, tower, **changes):
    config = json.loads((folder / "config.json").read_text())
    change_json(folder / "config.json", **{tower: {**config[tower], **changes}})


def to_pickle(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")


BROKEN = {
    "a pickle": (to_pickle, "not there as safetensors, only pytorch_model.bin; pickled weights are never read"),
    "another model": (lambda x: change_json(x / "config.json", model_type="siglip"), "is no CLIPModel's config"),
    "one tower": (
        lambda x: rewrite(x / "model.safetensors", lambda s: {k: v for k, v in s.items() if "vision" not in k}),
        r"vision_model\.embeddings\.position_embedding\.weight is missing",
    ),
    "a weight less": (
        lambda x: rewrite(x / "model.safetensors", lambda s: {k: v for k, v in s.items() if "fc2.bias" not in k}),
        r"the weights lack text_model\.encoder\.layers\.0\.mlp\.fc2\.bias",
    ),
    "a weight more": (
        lambda x: rewrite(x / "model.safetensors", lambda s: {**s, "extra.weight": torch.zeros(1)}),
        r"have, beyond a CLIP's, extra\.weight",
    ),
    "another shape": (
        lambda x: rewrite(x / "model.safetensors", lambda s: {**s, "text_model.final_layer_norm.bias": torch.zeros(3)}),
        r"ln_final\.bias has the shape \(3,\), not \(32,\)",
    ),
    "not finite": (
        lambda x: rewrite(
            x / "model.safetensors", lambda s: {**s, "text_model.final_layer_norm.bias": torch.full((32,), math.nan)}
        ),
        r"ln_final\.bias is not finite",
    ),
    "damaged": (lambda x: (x / "model.safetensors").write_bytes(b"abc"), "not a whole safetensors file"),
    "two activations": (lambda x: change_tower(x, "text_config", hidden_act="quick_gelu"), "hidden_act of the towers"),
    "an unknown activation": (lambda x: change_tower(x, "text_config", hidden_act="relu"), "hidden_act 'relu'"),
    "another epsilon": (lambda x: change_tower(x, "vision_config", layer_norm_eps=1e-6), "layer_norm_eps 1e-06"),
    "another end": (lambda x: change_tower(x, "text_config", eos_token_id=5), "eos_token_id 5"),
    "no resize": (lambda x: change_json(x / "preprocessor_config.json", do_resize=False), "do_resize is off"),
    "another size": (
        lambda x: change_json(x / "preprocessor_config.json", size={"shortest_edge": 224}),
        "does not give the model's 56 pixels",
    ),
    "another crop": (
        lambda x: change_json(x / "preprocessor_config.json", crop_size={"height": 56, "width": 48}),
        r"crop_size .*does not give the model's 56 pixels",
    ),
    "an old crop": (
        lambda x: change_json(x / "preprocessor_config.json", size=56, crop_size=48),
        "crop_size 48 with this crop",
    ),
    "the longest edge": (
        lambda x: change_json(x / "preprocessor_config.json", size={"longest_edge": 56}, do_center_crop=False),
        "size .*longest_edge.*does not give",
    ),
    "nearest": (lambda x: change_json(x / "preprocessor_config.json", resample=0), "resample is 0"),
    "other words": (
        lambda x: (x / "vocab.json").write_text('{"a": 0}'),
        r"vocab\.json: not CLIP's vocabulary",
    ),
    "nothing": (lambda x: (x / "config.json").unlink(), "has none of open_clip_config.json, config.json"),
}  # fmt: skip


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return as_transformers(random_model(), tmp_path_factory.mktemp("published"))


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_no_such_clip_is_refused_with_the_reason(published, tmp_path, what):
    shutil.copytree(published, tmp_path / "in")
    change, message = BROKEN[what]
    change(tmp_path / "in")
    with pytest.raises(CheckpointError, match=message):
        import_clip(str(tmp_path / "in"), None, tmp_path / "out", logit_scale=None)
    assert [path.name for path in tmp_path.iterdir()] == ["in"], "nothing half-written is left"


@pytest.mark.parametrize("change", [{"crop_size": 56, "size": 56}, {"crop_size": 9, "do_center_crop": False}])
def test_crops_that_are_the_models_or_switched_off_are_read(published, tmp_path, change):
    shutil.copytree(published, tmp_path / "in")
    if "do_center_crop" in change:
        change = {**change, "size": {"height": 56, "width": 56}}
    change_json(tmp_path / "in/preprocessor_config.json", **change)
    import_clip(str(tmp_path / "in"), None, tmp_path / "out", logit_scale=None)


@pytest.mark.parametrize("index", [[], {}, {"weight_map": []}, {"weight_map": {"a": 1}}, {"weight_map": {}}])
def test_an_index_that_maps_nothing_is_refused(published, tmp_path, index):
    shutil.copytree(published, tmp_path / "in")
    (tmp_path / "in/model.safetensors").unlink()
    (tmp_path / "in/model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"index\.json: has no weight_map"):
        import_clip(str(tmp_path / "in"), None, tmp_path / "out", logit_scale=None)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_that_is_none_is_refused_before_anything_is_read(tmp_path, scale):
    with pytest.raises(CheckpointError, match=r"--logit-scale\): has to be above 0 and finite"):
        import_clip(str(tmp_path / "nothing"), None, tmp_path / "out", logit_scale=scale)


def test_a_folders_clip_has_its_name_and_not_its_place(published, tmp_path):
    import_clip(str(published), None, tmp_path / "out", logit_scale=None)
    assert FrozenClip.load(tmp_path / "out", device="cpu").name == published.name


def test_a_tiny_end_of_old_configs_is_read(published, tmp_path):
    shutil.copytree(published, tmp_path / "in")
    change_tower(tmp_path / "in", "text_config", eos_token_id=2)
    rewrite(
        tmp_path / "in/model.safetensors", lambda s: {**s, "text_model.embeddings.position_ids": torch.arange(77)[None]}
    )
    import_clip(str(tmp_path / "in"), None, tmp_path / "out", logit_scale=None)


def test_two_towers_need_the_temperature(tmp_path):
    as_pipeline(random_model(), tmp_path / "in")
    with pytest.raises(CheckpointError, match=r"do not hold logit_scale.*--logit-scale"):
        import_clip(str(tmp_path / "in"), None, tmp_path / "out", logit_scale=None)


def test_a_temperature_that_the_files_contradict_is_refused(published, tmp_path):
    import_clip(str(published), None, tmp_path / "out", logit_scale=SCALE)
    with pytest.raises(CheckpointError, match="holds the logit_scale 73.5, not 100"):
        import_clip(str(published), None, tmp_path / "out", logit_scale=100.0)


def test_a_pipeline_without_its_image_tower_is_refused(tmp_path):
    as_pipeline(random_model(), tmp_path / "in")
    shutil.rmtree(tmp_path / "in/image_encoder")
    with pytest.raises(CheckpointError, match="has no image_encoder/"):
        import_clip(str(tmp_path / "in"), None, tmp_path / "out", logit_scale=SCALE)


RESNET = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


def test_a_resnet_comes_in_but_has_no_other_form(tmp_path):
    torch.manual_seed(0)
    save_clip(CLIP(**RESNET), RESNET, tmp_path / "in")
    import_clip(str(tmp_path / "in"), None, tmp_path / "out", logit_scale=None)
    FrozenClip.load(tmp_path / "out", device="cpu")
    with pytest.raises(CheckpointError, match="has no .*a ResNet"):
        write_transformers(tmp_path / "out", tmp_path / "pipeline")


def test_blocks_of_another_kind_have_no_other_form(published, tmp_path):
    import_clip(str(published), None, tmp_path / "clip", logit_scale=None)
    config = json.loads((tmp_path / "clip" / CONFIG).read_text())
    config["model_cfg"]["vision_cfg"]["ls_init_value"] = 0.1
    (tmp_path / "clip" / CONFIG).write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"has no vision_cfg\.ls_init_value"):
        write_transformers(tmp_path / "clip", tmp_path / "pipeline")


# The true shapes, on the meta device: no memory, every name and shape.

PUBLIC = {"ViT-L-14-quickgelu": 427_616_513, "ViT-bigG-14": 2_539_567_105}
"""Parameters; open_clip's docs/model_profile.csv rounds them to 427.62 M and 2539.57 M."""
HEADS = {"ViT-L-14-quickgelu": (12, 16), "ViT-bigG-14": (20, 16)}


@pytest.mark.parametrize("name", PUBLIC)
def test_published_sizes_have_both_forms(name):
    published = open_clip.get_model_config(name)
    model_cfg = canonical(published, name)
    with torch.device("meta"):
        ours, plain = CLIP(**model_cfg), CLIP(**published)
        text, vision = tower_configs(model_cfg)
        towers = [
            CLIPTextModelWithProjection(CLIPTextConfig(**text)),
            CLIPVisionModelWithProjection(CLIPVisionConfig(**vision)),
        ]
        state = {key: value for tower in towers for key, value in tower.state_dict().items()}
    assert sum(value.numel() for value in ours.parameters()) == PUBLIC[name]
    assert sum(value.numel() for value in state.values()) == PUBLIC[name] - 1, "all but the temperature"
    assert (text["num_attention_heads"], vision["num_attention_heads"]) == HEADS[name]
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    assert model_config(text, vision, shapes, name) == model_cfg
    mapping = [
        pair for pair in pairs(text["num_hidden_layers"], vision["num_hidden_layers"]) if pair.ours != "logit_scale"
    ]
    there = to_open_clip(mapping, state.__getitem__)
    assert {k: v.shape for k, v in there.items()} == {
        k: v.shape for k, v in plain.state_dict().items() if k != "logit_scale"
    }
    back = to_transformers(mapping, plain.state_dict().__getitem__)
    assert {k: tuple(v.shape) for k, v in back.items()} == shapes


@pytest.mark.parametrize(("width", "hidden", "ratio"), [(1664, 8192, 4.9231), (1024, 4096, 4.0), (1408, 6144, 4.36364)])
def test_mlp_ratios_are_as_short_as_they_can_be(width, hidden, ratio):
    """bigG and L as open_clip writes them; g, which it writes as 4.3637, comes out in one spelling too."""
    assert mlp_ratio(width, hidden) == ratio and int(width * ratio) == hidden


@pytest.mark.parametrize("hidden", range(101, 400, 7))
def test_any_hidden_width_survives_its_ratio(hidden):
    assert int(97 * mlp_ratio(97, hidden)) == hidden


FULL = {
    "text": {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 1, "num_attention_heads": 20},
    "vision": {
        "hidden_size": 1664, "intermediate_size": 8192, "num_hidden_layers": 1, "num_attention_heads": 16,
        "image_size": 224,
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("tower", "heads"), [("text", 64), ("vision", 104)])
@torch.no_grad()
def test_vectors_agree_at_full_width(tmp_path, tower, heads):
    """bigG's own widths and heads, one block of one tower at a time; its words are a few, which no matrix sees."""
    words = {"vocab_size": 600, "eos_token_id": 2}
    sizes = {tower: FULL[tower], "text": {**words, **(FULL["text"] if tower == "text" else {})}}
    model = random_model(dtype=torch.bfloat16, **sizes)
    as_pipeline(model, tmp_path / "in")
    model.float()
    import_clip(str(tmp_path / "in"), None, tmp_path / "out", logit_scale=100.0)
    clip = FrozenClip.load(tmp_path / "out", device="cpu")
    tokens = torch.zeros(3, 77, dtype=torch.int64)
    for row, length in zip(tokens, (5, 77, 2), strict=True):
        row[:length] = torch.randint(1, 599, (length,))
        row[length - 1] = 599
    ours, hidden = clip.encode_text(tokens), model.text_model(input_ids=tokens)
    close(ours.text_states, hidden.last_hidden_state[torch.arange(77) < ours.lengths[:, None]])
    close(ours.prompt_embeds, model.text_projection(hidden.pooler_output))
    size = clip.image_size
    images = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    pixels = clip.preprocess(images)
    close(clip.encode_image(images), model.get_image_features(pixel_values=pixels).pooler_output)
    blocks = clip.model.transformer if tower == "text" else clip.model.visual.transformer
    assert blocks.resblocks[0].attn.head_dim == heads
    shutil.rmtree(tmp_path)  # a quarter of a gigabyte
