"""Stage ``train`` from a real store to a prior folder, and what it refuses."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from eclipse.errors import CheckpointError, ConfigError, DataError, StoreError, TrainingError
from eclipse.models.checkpoint import load_prior, prior_hash, save_prior
from eclipse.models.prior import EclipsePrior
from eclipse.stages import train
from eclipse.train.loop import Trainer
from tests.train.tiny import RECORDS, WIDTH, annotated, embedded, params, write_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("store") / "store")


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("subjects") / "store", annotated(embedded()))


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


@pytest.mark.parametrize(
    ("point", "kind"),
    [("lambda-0.2", "lambda-eclipse"), ("lambda-0.2-edges", "lambda-eclipse"), ("eclipse-0.2", "eclipse")],
)
def test_a_store_with_subjects_trains_lambda_eclipse_and_its_text_only_baseline(tmp_path, subjects, point, kind):
    summary = train.run(params(subject_steps=3), store=subjects, **places(tmp_path, point=point))
    prior = load_prior(tmp_path / "prior", kind=kind)
    lineage = json.loads((tmp_path / "prior" / "training.json").read_text())
    assert (lineage["method"], lineage["lam"]) == (point.partition("-")[0], 0.2)
    assert summary["steps"] == lineage["train_params"]["steps"] == 3
    assert lineage["train_params"].get("control_drop") == (0.01 if point.endswith("edges") else None)
    if kind == "eclipse":
        assert {"additional_embeddings", "control", "interleaving"}.isdisjoint(lineage)
        return
    assert lineage["additional_embeddings"] == prior.config.additional_embeddings == 4
    assert lineage["control"] == ("edges of the picture" if point.endswith("edges") else "zero-pixel image")
    assert "token spans" in lineage["interleaving"]


def test_text_alone_trains_the_same_prior_on_both_stores(tmp_path, store, subjects):
    weights = []
    for name, folder in (("plain", store), ("subjects", subjects)):
        train.run(params(), store=folder, **places(tmp_path / name))
        weights.append(load_prior(tmp_path / name / "prior").state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_subjects_and_edges_change_the_prior(tmp_path, subjects):
    hashes = set()
    for drop in (0.0, 1.0):
        for point in ("lambda-0.2", "lambda-0.2-edges"):
            out = tmp_path / f"{point}-{drop}"
            train.run(params(steps=1, control_drop=drop), store=subjects, **places(out, point=point))
            hashes.add(prior_hash(out / "prior"))
    assert len(hashes) == 3  # without edges, their drop rate is no part of the training


def test_lambda_eclipse_without_subjects_is_refused(tmp_path, store):
    with pytest.raises(StoreError, match=r"store: has no subjects, which lambda-0.2 .* stages annotate and embed"):
        train.run(params(), store=store, **places(tmp_path, point="lambda-0.2"))
    assert not any(tmp_path.iterdir())


def test_a_warm_start_begins_with_the_given_weights_and_is_recorded(tmp_path, store, subjects):
    train.run(params(), store=store, **places(tmp_path / "first"))
    first = tmp_path / "first" / "prior"
    kept = params(steps=1, lr=1e-12, weight_decay=0.0)
    where = places(tmp_path / "second", point="lambda-0.2", warm_start=first)
    train.run(kept, store=subjects, **where)
    weights = load_prior(where["out"]).state_dict()
    assert torch.allclose(weights["proj_in.weight"], load_prior(first).state_dict()["proj_in.weight"], atol=1e-9)
    assert weights["embedding_control.weight"].abs().max() < 1e-9
    assert json.loads((where["out"] / "training.json").read_text())["warm_start"] == prior_hash(first)


def test_a_warm_start_that_cannot_be_is_refused(tmp_path, store):
    with pytest.raises(ConfigError, match="warm_start: the diffusion baseline"):
        train.run(params(), store=store, **places(tmp_path, point="diffusion", warm_start=tmp_path))
    size = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8}
    save_prior(EclipsePrior(WIDTH, **size), tmp_path / "other", {"encoder_hash": "x" * 64})
    with pytest.raises(CheckpointError, match="another encoder"):
        train.run(params(), store=store, **places(tmp_path, warm_start=tmp_path / "other"))


def test_steps_and_batch_on_data_with_subjects_are_their_own(tmp_path, store, subjects):
    own = {"subject_steps": 2, "subject_batch_size": 10}
    where = places(tmp_path / "subjects", point="lambda-0.2")
    assert train.run(params(**own), store=subjects, **where)["steps"] == 2
    used = json.loads((where["out"] / "training.json").read_text())["train_params"]
    assert (used["steps"], used["batch_size"]) == (2, 10) and own.keys().isdisjoint(used)
    plain = {}
    for name, given in (("without", {}), ("with", own)):
        where = places(tmp_path / name)
        assert train.run(params(**given), store=store, **where)["steps"] == 6
        plain[name] = json.loads((where["out"] / "training.json").read_text())
    assert plain["with"] == plain["without"] and plain["with"]["train_params"]["batch_size"] == 8


def test_what_is_set_for_subjects_trains_what_the_same_numbers_train_otherwise(tmp_path, subjects):
    hashes = set()
    for name, given in (
        ("own", {"subject_steps": 2, "subject_batch_size": 10}),
        ("all", {"steps": 2, "batch_size": 10}),
    ):
        where = places(tmp_path / name, point="lambda-0.2")
        train.run(params(**given), store=subjects, **where)
        hashes.add(prior_hash(where["out"]))
    assert len(hashes) == 1


def test_a_batch_larger_than_the_data_with_subjects_is_refused_there_alone(tmp_path, store, subjects):
    given = params(steps=1, subject_batch_size=64)
    with pytest.raises(TrainingError, match=rf"{RECORDS} training samples cannot fill one batch of 64"):
        train.run(given, store=subjects, **places(tmp_path / "subjects"))
    assert train.run(given, store=store, **places(tmp_path / "plain"))["steps"] == 1
