"""Stage ``train`` from a real store to a prior folder, and what it refuses."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from eclipse.errors import ConfigError, DataError, StoreError, TrainingError
from eclipse.models.checkpoint import load_prior, prior_hash
from eclipse.stages import train
from eclipse.train.loop import Trainer
from tests.train.tiny import RECORDS, WIDTH, embedded, params, write_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("store") / "store")


def places(folder, **changes):
    return {
        "out": folder / "prior",
        "metrics": folder / "metrics.json",
        "checkpoints": folder / "checkpoints",
        "point": "eclipse-0.2",
        "seed": 3,
        **changes,
    }


@pytest.mark.parametrize(
    ("point", "kind"), [("projection", "eclipse"), ("eclipse-0.2", "eclipse"), ("diffusion", "diffusion")]
)
def test_writes_a_loadable_prior_with_lineage_curve_and_metrics(tmp_path, store, point, kind):
    summary = train.run(params(), store=store, **places(tmp_path, point=point))
    out = tmp_path / "prior"
    prior = load_prior(out, kind=kind)
    lineage = json.loads((out / "training.json").read_text())
    assert lineage["prior_hash"] == prior_hash(out)
    assert (lineage["point"], lineage["seed"], lineage["mse_reduction"]) == (point, 3, "mean")
    assert lineage["temperature"] == pytest.approx(0.01)
    assert (lineage["encoder_hash"], lineage["dataset_digest"]) == ("w" * 64, "d" * 64)
    with (out / "curves.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == [str(i) for i in range(1, 7)]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics == json.loads(json.dumps(summary))
    assert metrics["parameters"] == sum(p.numel() for n, p in prior.named_parameters() if not n.startswith("clip_"))
    assert not any((tmp_path / "checkpoints").rglob("*"))
    if point == "diffusion":
        assert torch.allclose(prior.clip_mean[0], embedded().image_embeds.mean(0), atol=1e-5)
        assert torch.allclose(prior.clip_std[0], embedded().image_embeds.std(0), atol=1e-5)


def test_stopped_and_run_again_gives_the_same_hash_and_leaves_no_state(tmp_path, store, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train.run(params(), store=store, **places(whole))
    step = Trainer._step

    def dies(self, number):
        if number == 5:
            raise KeyboardInterrupt
        return step(self, number)

    monkeypatch.setattr(Trainer, "_step", dies)
    with pytest.raises(KeyboardInterrupt):
        train.run(params(), store=store, **places(broken))
    assert not (broken / "prior").exists() and not (broken / "metrics.json").exists()
    (state,) = (broken / "checkpoints").rglob("state.pt")
    assert state.parts[-3] == "eclipse-0.2-3"
    resumed = []
    monkeypatch.setattr(Trainer, "_step", lambda self, number: (resumed.append(number), step(self, number))[1])
    train.run(params(), store=store, **places(broken))
    assert resumed == [4, 5]
    assert prior_hash(broken / "prior") == prior_hash(whole / "prior")
    assert not any((broken / "checkpoints").rglob("*"))


def test_changed_parameters_never_meet_an_old_state(tmp_path, store, monkeypatch):
    monkeypatch.setattr(Trainer, "run", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    seen = []
    monkeypatch.setattr(Trainer, "_resume", lambda self: seen.append(self.plan.checkpoint))
    for changes in ({}, {"lr": 0.5}, {"checkpoint_every": 3}):
        with pytest.raises(KeyboardInterrupt):
            train.run(params(**changes), store=store, **places(tmp_path))
    assert seen[0] != seen[1] and seen[0] == seen[2]


def test_temperature_parameter_wins_over_the_encoders(tmp_path, store):
    train.run(params(steps=1, temperature=0.5), store=store, **places(tmp_path))
    assert json.loads((tmp_path / "prior" / "training.json").read_text())["temperature"] == 0.5


def test_wrong_point_is_refused(tmp_path, store):
    with pytest.raises(ConfigError, match="'eclipse_0.2' cannot be trained"):
        train.run(params(), store=store, **places(tmp_path, point="eclipse_0.2"))


def test_batch_larger_than_the_data_is_refused(tmp_path, store):
    with pytest.raises(TrainingError, match=rf"{RECORDS} training samples cannot fill one batch of 64"):
        train.run(params(batch_size=64), store=store, **places(tmp_path))
    assert not any(tmp_path.iterdir())


def test_missing_store_is_refused(tmp_path):
    with pytest.raises(StoreError, match="header.json"):
        train.run(params(), store=tmp_path / "nowhere", **places(tmp_path))


@pytest.mark.parametrize("point", ["eclipse-0.2", "diffusion"])
def test_nan_in_the_store_is_refused(tmp_path, point):
    folder = write_store(tmp_path / "store")
    (shard,) = (folder / "train").glob("*.safetensors")
    tensors = load_file(shard)
    tensors["image_embeds"][:, 2] = float("nan")
    save_file(tensors, shard)
    with pytest.raises((TrainingError, DataError), match="image_embeds.* finite"):
        train.run(params(), store=folder, **places(tmp_path, point=point))
    assert not (tmp_path / "prior").exists() and not (tmp_path / "metrics.json").exists()


def test_prior_takes_its_widths_from_the_store(tmp_path):
    folder = write_store(tmp_path / "store", embedded(width=24))
    train.run(params(steps=1), store=folder, **places(tmp_path))
    config = load_prior(tmp_path / "prior").config
    assert (config.embedding_dim, config.state_dim) == (24, 24) != (WIDTH, WIDTH)
