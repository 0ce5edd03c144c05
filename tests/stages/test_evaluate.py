import shutil

import numpy as np
import open_clip
import pyarrow.parquet as pq
import pytest
import torch
from made_decoder import make_decoder
from safetensors.numpy import load_file

from eclipse.config.load import parse_params
from eclipse.data.images import encode_png
from eclipse.data.manifest import Manifest, Split
from eclipse.data.records import SPLITS, Record
from eclipse.data.shards import ShardWriter
from eclipse.errors import CheckpointError, ConfigError, DataError, StoreError
from eclipse.evaluate.split import real_pictures
from eclipse.evaluate.summary import collect, format_table
from eclipse.files import read_json, write_json
from eclipse.models.checkpoint import save_prior
from eclipse.models.clip import save_clip
from eclipse.models.prior import EclipsePrior
from eclipse.stages import embed, evaluate
from eclipse.world.captions import plain_caption
from eclipse.world.oracle import OracleNet, save_oracle
from eclipse.world.render import render
from eclipse.world.scene import random_scene

CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
COUNT = {"train": 12, "val_seen": 5, "val_held_out": 0, "test_seen": 4, "test_held_out": 3}


def params(**changes):
    decode = {"steps": 2, "batch_size": 3}
    return parse_params(
        {
            "data": {}, "frozen": {}, "prior": {}, "train": {"steps": 1, "batch_size": 2}, "sweep": {}, "select": {},
            "tracking": {}, "store": {"tokens": "fp16", "image_dtype": "fp32"},
            "evaluate": {"images": 4, "bootstrap": 100, "decode": decode, **changes},
        }
    )  # fmt: skip


def write_dataset(folder, captions=None, shift=0):
    splits = {}
    for s, split in enumerate(SPLITS):
        with ShardWriter(folder, split, 100) as writer:
            for i in range(COUNT[split]):
                rng = np.random.default_rng([s, i])
                scene = random_scene(rng)
                text = plain_caption(scene) if captions is None else captions[split][i]
                meta = {"scene": scene.to_dict()} if captions is None else {"group": str(i)}
                writer.add(Record(f"{split}-{i + shift:03d}", text, encode_png(render(scene, rng).image), meta))
        splits[split] = Split.of(writer.shards)
    Manifest(source="test", seed=0, params_digest="0", splits=splits).save(folder)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Random frozen models, a small world and its store, and one untrained prior."""
    root = tmp_path_factory.mktemp("evaluate")
    torch.manual_seed(0)
    save_clip(open_clip.model.CLIP(**CLIP), CLIP, root / "frozen" / "clip")
    make_decoder(root / "frozen" / "decoder", 24)
    save_oracle(OracleNet(width=4), root / "frozen" / "oracle")
    (root / "dataset").mkdir()
    write_dataset(root / "dataset")
    embed.run(
        params(), dataset=root / "dataset", frozen=root / "frozen", out=root / "store", metrics=root / "store.json"
    )
    sizes = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8}
    save_prior(EclipsePrior(24, 16, **sizes), root / "priors" / "projection-0")
    write_json(root / "priors" / "projection-0" / "training.json", {"point": "projection", "seed": 0})
    return root


def run(root, point, *, seed=0, to=None, settings=None, **paths):
    to = to or root
    given = {"store": root / "store", "frozen": root / "frozen", "dataset": root / "dataset",
             "prior": root / "priors" / "projection-0" if point == "projection" else None, **paths}  # fmt: skip
    return evaluate.run(
        settings or params(),
        **given,
        out=to / f"{point}-{seed}",
        metrics=to / "m" / f"{point}-{seed}.json",
        point=point,
        seed=seed,
    )


@pytest.fixture(scope="module")
def found(made):
    return {point: run(made, point) for point in ("truth", "text", "projection")}


def test_all_metrics_on_all_splits_that_hold_captions(made, found):
    for point, summary in found.items():
        assert set(summary["splits"]) == {"val_seen", "test_seen", "test_held_out"}
        always = {"cosine", "text_cosine", "r1", "r5", "r1_all", "r5_all", "manifold", "clip_score", "fid", "colour",
                  "shape", "texture", "background", "composition"}  # fmt: skip
        for split, metrics in summary["splits"].items():
            assert always <= set(metrics) and "binding" not in metrics
            for entry in metrics.values():
                assert entry["low"] <= entry["value"] + 1e-9 and entry["value"] <= entry["high"] + 1e-9
            assert metrics["cosine"]["n"] == COUNT[split] and metrics["clip_score"]["n"] == min(4, COUNT[split])
        assert read_json(made / "m" / f"{point}-0.json") == summary


def test_ceiling_and_floor_are_what_they_say(found):
    truth, text = (found[point]["splits"]["test_seen"] for point in ("truth", "text"))
    assert truth["cosine"]["value"] == pytest.approx(1) and truth["r1"]["value"] == truth["r1_all"]["value"] == 1
    assert truth["manifold"]["value"] == pytest.approx(1)
    assert text["text_cosine"]["value"] == pytest.approx(1)
    assert text["cosine"]["value"] == pytest.approx(truth["text_cosine"]["value"])
    assert found["truth"]["seconds"]["prior_per_caption"] == 0 < found["projection"]["seconds"]["prior_per_caption"]


def test_what_is_written_fits_together(made, found):
    table = pq.read_table(made / "projection-0" / "per_prompt.parquet").to_pydict()
    embeds = load_file(made / "projection-0" / "embeds.safetensors")
    assert len(table["id"]) == 12 and table["id"][0] == "val_seen-000"
    assert embeds["test_seen"].shape == (4, 24) and embeds["test_seen"].dtype == np.float32
    values = [v for v, split in zip(table["cosine"], table["split"], strict=True) if split == "val_seen"]
    assert np.mean(values) == pytest.approx(found["projection"]["splits"]["val_seen"]["cosine"]["value"])
    assert np.isnan(table["colour"][4]) and not np.isnan(table["colour"][3])  # 4 of 5 captions are decoded
    images = np.load(made / "projection-0" / "images" / "test_held_out.npy")
    assert images.shape == (3, 64, 64, 3) and images.dtype == np.uint8
    assert "ceiling" in format_table(collect(made / "m", made, count=100))


def test_run_again_it_says_the_same(made, found, tmp_path):
    again = run(made, "projection", to=tmp_path)
    assert again["splits"] == found["projection"]["splits"]
    for name in ("embeds.safetensors", "images/test_seen.npy", "per_prompt.parquet"):
        assert (tmp_path / "projection-0" / name).read_bytes() == (made / "projection-0" / name).read_bytes()


def test_no_images_means_embedding_metrics_only(made, tmp_path):
    metrics = run(made, "projection", to=tmp_path, settings=params(images=0))["splits"]["test_seen"]
    assert set(metrics) == {"cosine", "text_cosine", "r1", "r5", "r1_all", "r5_all", "manifold"}


def test_mirror_captions_are_judged_on_binding_whatever_split_the_partner_is_in(made, tmp_path):
    captions = {split: [f"thing {split} {i}" for i in range(count)] for split, count in COUNT.items()}
    captions["test_held_out"][1] = "handshake, dark, light"
    captions["train"][5] = "handshake, light, dark"
    data, store = tmp_path / "data", tmp_path / "store"
    data.mkdir()
    write_dataset(data, captions)
    embed.run(params(), dataset=data, frozen=made / "frozen", out=store, metrics=tmp_path / "s.json")
    splits = run(made, "truth", to=tmp_path, store=store, dataset=data)["splits"]
    assert splits["test_held_out"]["binding"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 1}
    assert "binding" not in splits["test_seen"] and "colour" not in splits["test_seen"]
    assert "fid" in splits["test_seen"]


def test_mistakes_are_refused_before_anything_is_written(made, tmp_path):
    prior = made / "priors" / "projection-0"
    with pytest.raises(ConfigError, match="truth takes no prior"):
        run(made, "truth", to=tmp_path, prior=prior)
    with pytest.raises(ConfigError, match="needs a trained prior"):
        run(made, "eclipse-0.2", to=tmp_path)
    with pytest.raises(CheckpointError, match="holds projection-0, not projection-1"):
        run(made, "projection", seed=1, to=tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    write_dataset(other, shift=1)
    with pytest.raises(DataError, match="other records than the store"):
        run(made, "truth", to=tmp_path, dataset=other)
    assert not (tmp_path / "truth-0").exists() and not (tmp_path / "m").exists()


def test_a_store_of_another_encoder_is_refused(made, tmp_path):
    torch.manual_seed(1)
    save_clip(open_clip.model.CLIP(**CLIP), CLIP, tmp_path / "clip")
    (tmp_path / "decoder").symlink_to(made / "frozen" / "decoder")
    with pytest.raises(StoreError, match="another encoder"):
        run(made, "truth", to=tmp_path, frozen=tmp_path)


def test_seen_validation_is_not_decoded_where_something_is_held_out(made, found, tmp_path, monkeypatch):
    monkeypatch.setitem(COUNT, "val_held_out", 3)
    data, store = tmp_path / "data", tmp_path / "store"
    data.mkdir()
    write_dataset(data)
    embed.run(params(), dataset=data, frozen=made / "frozen", out=store, metrics=tmp_path / "s.json")
    splits = run(made, "projection", to=tmp_path, store=store, dataset=data)["splits"]
    assert set(splits["val_seen"]) == {"cosine", "text_cosine", "r1", "r5", "r1_all", "r5_all", "manifold"}
    before = found["projection"]["splits"]["val_seen"]["cosine"]
    assert splits["val_seen"]["cosine"] == pytest.approx(before)
    for split in ("val_held_out", "test_seen", "test_held_out"):
        assert {"composition", "clip_score", "fid"} <= set(splits[split])
        images = np.load(tmp_path / "projection-0" / "images" / f"{split}.npy")
        assert len(images) == splits[split]["clip_score"]["n"] == min(4, COUNT[split])
    assert len(np.load(tmp_path / "projection-0" / "images" / "val_seen.npy")) == 0
    table = pq.read_table(tmp_path / "projection-0" / "per_prompt.parquet").to_pydict()
    seen = [score for score, split in zip(table["composition"], table["split"], strict=True) if split == "val_seen"]
    assert len(seen) == COUNT["val_seen"] and np.isnan(seen).all()


def test_a_prior_of_another_clip_is_refused(made, tmp_path):
    prior = tmp_path / "projection-0"
    shutil.copytree(made / "priors" / "projection-0", prior)
    write_json(prior / "training.json", {"point": "projection", "seed": 0, "encoder_hash": "e" * 64})
    with pytest.raises(CheckpointError, match=r"projection-0: was trained on the CLIP eeeeeeeeeeee, but the frozen"):
        run(made, "projection", to=tmp_path, prior=prior)
    assert not (tmp_path / "m").exists()


def test_a_store_of_another_tokenizer_is_refused(made, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(made / "store", store)
    write_json(store / "header.json", read_json(store / "header.json") | {"tokenizer_hash": "f" * 64})
    with pytest.raises(StoreError, match="another tokenizer"):
        run(made, "truth", to=tmp_path, store=store)


def test_real_pictures_of_other_sizes_are_cut_to_the_made_ones(tmp_path):
    wide = np.zeros((40, 80, 3), np.uint8)
    wide[:, :20] = wide[:, 60:] = (255, 0, 0)  # the ends are cut off
    wide[:, 20:60] = (0, 0, 255)
    small = np.full((16, 16, 3), (0, 255, 0), np.uint8)
    with ShardWriter(tmp_path, "test_seen", 9) as writer:
        for name, image in (("a", wide), ("b", small)):
            writer.add(Record(name, name, encode_png(image), {"name": name}))
    splits = {"test_seen": Split.of(writer.shards)}
    Manifest(source="test", seed=0, params_digest="0", splits=splits).save(tmp_path)
    pictures, meta = real_pictures(tmp_path, "test_seen", ["a", "b"], (32, 32))
    assert pictures.shape == (2, 32, 32, 3) and [m["name"] for m in meta] == ["a", "b"]
    assert (pictures[0][:, 2:-2] == (0, 0, 255)).all() and (pictures[1] == (0, 255, 0)).all()
