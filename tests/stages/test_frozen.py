import json
import shutil
from pathlib import Path

import made_clips
import pytest
from made_cache import REVISION, put
from made_decoder import make_decoder

from eclipse.config import load_params
from eclipse.errors import CheckpointError, DataError
from eclipse.files import read_json, tree_digest
from eclipse.models.clip import FrozenClip
from eclipse.models.decoder.reference import decoder_digest, open_decoder
from eclipse.stages import dataset, frozen
from eclipse.stages.pretrain import DIGESTS, check_digests, file_digests

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "models/mini"


def run(folder, tmp_path):
    params = load_params(ROOT / "params.yaml", [f"frozen.path={folder}"])
    return frozen.run(
        params,
        dataset=tmp_path / "unused",
        out=tmp_path / "frozen",
        metrics=tmp_path / "frozen.json",
        checkpoints=tmp_path / "checkpoints",
    )


def test_shipped_models_are_copied_whole(tmp_path):
    digests = run(SHIPPED, tmp_path)
    assert set(digests) == {"clip", "decoder", "oracle"} and read_json(tmp_path / "frozen.json") == digests
    check_digests(tmp_path / "frozen", read_json(SHIPPED / DIGESTS))


def test_a_changed_weight_file_is_named_and_nothing_is_left(tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(SHIPPED, copy)
    victim = copy / "oracle" / "model.safetensors"
    victim.write_bytes(victim.read_bytes()[:-1] + b"\0")
    with pytest.raises(CheckpointError, match="oracle/model.safetensors: changed"):
        run(copy, tmp_path)
    assert not (tmp_path / "frozen").exists()


def test_a_missing_and_a_foreign_file_are_named(tmp_path):
    expected = file_digests(SHIPPED)
    (tmp_path / "extra.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="extra.bin: not listed"):
        check_digests(tmp_path, {})
    with pytest.raises(CheckpointError, match="missing"):
        check_digests(tmp_path, {**expected, "extra.bin": file_digests(tmp_path)["extra.bin"]})


def test_a_folder_without_digests_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"frozen\.path"):
        run(tmp_path, tmp_path)


@pytest.mark.slow
def test_small_models_are_trained_on_a_dataset_and_a_stopped_training_goes_on(tmp_path, monkeypatch):
    settings = [f"frozen.{part}={{steps: 2, batch_size: 4, lr: 0.001}}" for part in ("clip", "movq", "decoder")]
    world = ["data.world.train=12", "data.world.evaluation=4", "frozen.source=train"]
    params = load_params(ROOT / "params.yaml", [*settings, *world])
    dataset.run(params, out=tmp_path / "dataset", metrics=tmp_path / "dataset.json")
    paths = {
        "dataset": tmp_path / "dataset",
        "out": tmp_path / "frozen",
        "metrics": tmp_path / "frozen.json",
        "checkpoints": tmp_path / "checkpoints",
    }
    with monkeypatch.context() as patch:
        patch.setattr(frozen.pretrain, "decoder", lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            frozen.run(params, **paths)
    assert not paths["out"].exists() and list(paths["checkpoints"].glob("frozen-*/parts/clip"))
    monkeypatch.setattr(frozen.pretrain, "clip", lambda *args, **kwargs: pytest.fail("CLIP is trained again"))
    digests = frozen.run(params, **paths)
    assert set(digests) == {"clip", "decoder"} and not list(paths["checkpoints"].glob("frozen-*"))


def _published(tmp_path, monkeypatch, **decoder):
    encoder = made_clips.as_transformers(made_clips.random_model(), tmp_path / "published-clip")
    hub = {"encoder": {"repo": str(encoder)}, "decoder": decoder}
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    params = load_params(ROOT / "params.yaml", ["frozen.source=hub", f"frozen.hub={json.dumps(hub)}"])
    paths = {name: tmp_path / name for name in ("dataset", "out", "metrics", "checkpoints")}
    return params, paths


def test_published_models_are_a_converted_clip_and_a_decoder_by_reference(tmp_path, monkeypatch):
    source = make_decoder(tmp_path / "published-decoder", 20)
    put(tmp_path / "hub", "example/decoder", source)
    params, paths = _published(tmp_path, monkeypatch, repo="example/decoder", revision=REVISION)
    digests = frozen.run(params, **paths)
    assert sorted(path.name for path in paths["out"].iterdir()) == ["clip", "decoder.json"]
    assert digests == {"clip": tree_digest(paths["out"] / "clip"), "decoder": decoder_digest(paths["out"])}
    clip, decoder = FrozenClip.load(paths["out"] / "clip"), open_decoder(paths["out"])
    assert clip.logit_scale == pytest.approx(made_clips.SCALE, rel=1e-5)
    assert decoder.embedding_dim == clip.projection_dim == 20


def test_a_published_decoder_in_a_local_folder_is_copied(tmp_path, monkeypatch):
    source = make_decoder(tmp_path / "published-decoder", 20)
    params, paths = _published(tmp_path, monkeypatch, repo=str(source))
    assert frozen.run(params, **paths)["decoder"] == tree_digest(source)


def test_a_decoder_that_is_not_there_leaves_nothing(tmp_path, monkeypatch):
    params, paths = _published(tmp_path, monkeypatch, repo="example/nowhere", revision=REVISION)
    with pytest.raises(CheckpointError, match=f"example/nowhere@{REVISION}.*model_index.json"):
        frozen.run(params, **paths)
    assert not paths["out"].exists()
    params, paths = _published(tmp_path, monkeypatch, repo="example/nowhere")
    with pytest.raises(CheckpointError, match="example/nowhere: .*full commit"):
        frozen.run(params, **paths)
