"""What is no CLIP of these forms is refused with its reason, and what is only unusual is read."""

import json
import math
import shutil

import pytest
import torch
from made_clips import SCALE, as_pipeline, as_transformers, random_model, rewrite
from open_clip.model import CLIP

from eclipse.errors import CheckpointError
from eclipse.models.clip import CONFIG, FrozenClip, save_clip
from eclipse.models.clip_forms import import_clip
from eclipse.models.clip_forms_write import write_transformers


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
