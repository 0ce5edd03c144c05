from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers.models.transformers.prior_transformer import PriorTransformer
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from eclipse.errors import CheckpointError
from eclipse.models.checkpoint import CONFIG, META, WEIGHTS, kind_of, load_prior, prior_hash, save_prior
from eclipse.models.diffusion import build_diffusion
from eclipse.models.prior import EclipsePrior

SIZE = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8}
KINDS = ("eclipse", "lambda-eclipse", "diffusion")


def make(kind: str):
    torch.manual_seed(0)
    if kind == "diffusion":
        return build_diffusion(12, train_steps=300, **SIZE)
    if kind == "eclipse":
        return EclipsePrior(12, 10, **SIZE)
    return EclipsePrior(12, additional_embeddings=4, **SIZE)


@pytest.fixture(params=KINDS)
def saved(request, tmp_path):
    prior = make(request.param)
    save_prior(prior, tmp_path / "prior")
    return request.param, prior, tmp_path / "prior"


def edit_weights(folder: Path, change) -> None:
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS)


def edit_config(folder: Path, **changes) -> None:
    config = {**json.loads((folder / CONFIG).read_text()), **changes}
    (folder / CONFIG).write_text(json.dumps({k: v for k, v in config.items() if v != "DROP"}))


def test_a_prior_comes_back_as_it_was(saved):
    kind, prior, folder = saved
    again = load_prior(folder, kind=kind)
    assert type(again) is type(prior) and kind_of(again) == kind
    assert not again.training
    for name, value in prior.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    assert again.config.get("state_dim") == prior.config.get("state_dim")
    assert again.config.get("num_train_timesteps") == prior.config.get("num_train_timesteps")
    assert {n for n, p in again.named_parameters() if not p.requires_grad} == {"clip_mean", "clip_std"}


def test_a_prior_is_refused_in_the_place_of_another_kind(saved):
    kind, _, folder = saved
    for other in set(KINDS) - {kind}:
        with pytest.raises(CheckpointError, match=f"of kind {kind}, but {other} is needed"):
            load_prior(folder, kind=other)


def test_same_content_same_bytes_and_other_weights_another_hash(tmp_path):
    meta = {"point": "eclipse-0.2", "seed": 1, "lam": 0.2, "nested": {"b": 1, "a": 2}}
    hashes = {save_prior(make("eclipse"), tmp_path / f"{n}", meta) for n in range(6)}
    assert hashes == {prior_hash(tmp_path / "0")}
    with safe_open(tmp_path / "0" / WEIGHTS, "pt") as file:
        assert json.loads(file.metadata()[META]) == meta
    edit_weights(tmp_path / "1", lambda w: w["proj_in.bias"].add_(1e-6))
    edit_config(tmp_path / "2", num_embeddings=78)
    assert len({prior_hash(tmp_path / n) for n in "012"}) == 3


def test_a_saved_prior_replaces_the_old_one_whole(tmp_path):
    save_prior(make("diffusion"), tmp_path / "prior")
    (tmp_path / "prior" / "stale.txt").write_text("old")
    save_prior(make("eclipse"), tmp_path / "prior")
    assert sorted(p.name for p in (tmp_path / "prior").iterdir()) == [CONFIG, WEIGHTS]
    assert [p.name for p in tmp_path.iterdir()] == ["prior"]


def test_a_failed_save_leaves_the_old_prior(tmp_path):
    before = save_prior(make("eclipse"), tmp_path / "prior")
    with pytest.raises(ValueError, match="float values"):
        save_prior(make("diffusion"), tmp_path / "prior", {"loss": float("nan")})
    assert prior_hash(tmp_path / "prior") == before


def test_diffusers_loads_the_diffusion_prior(tmp_path):
    prior = make("diffusion")
    save_prior(prior, tmp_path / "prior")
    again = PriorTransformer.from_pretrained(tmp_path / "prior")
    assert torch.equal(again.proj_in.weight, prior.proj_in.weight)


@pytest.mark.parametrize("kind", ["eclipse", "lambda-eclipse"])
def test_published_priors_are_recognised_under_diffusers_class_name(kind, tmp_path):
    prior = make(kind)
    save_prior(prior, tmp_path / "prior")
    edit_config(
        tmp_path / "prior",
        _class_name="PriorTransformer",
        _diffusers_version="0.23.1",
        added_emb_type="prd",
        dropout=0.0,
        state_dim="DROP" if kind != "eclipse" else 10,
    )
    again = load_prior(tmp_path / "prior")
    assert isinstance(again, EclipsePrior) and kind_of(again) == kind


def test_half_precision_weights_are_computed_with_in_fp32(tmp_path):
    save_prior(make("eclipse").half(), tmp_path / "prior")
    assert load_file(tmp_path / "prior" / WEIGHTS)["proj_in.weight"].dtype == torch.float16
    assert load_prior(tmp_path / "prior").dtype == torch.float32


def test_a_lambda_checkpoint_in_an_eclipse_slot_is_refused_with_the_reason(tmp_path):
    save_prior(make("eclipse"), tmp_path / "prior")
    save_prior(make("lambda-eclipse"), tmp_path / "lambda")
    (tmp_path / "lambda" / WEIGHTS).replace(tmp_path / "prior" / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"unexpected embedding_control\.bias.*λ-ECLIPSE prior with a control"):
        load_prior(tmp_path / "prior")


def test_a_diffusion_checkpoint_in_an_eclipse_slot_is_refused_with_the_reason(tmp_path):
    save_prior(make("eclipse"), tmp_path / "prior")
    save_prior(make("diffusion"), tmp_path / "diffusion")
    (tmp_path / "diffusion" / WEIGHTS).replace(tmp_path / "prior" / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"time_embedding.*diffusion prior, which has a time token"):
        load_prior(tmp_path / "prior")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda w: w.pop("prd_embedding"), "missing prd_embedding"),
        (lambda w: w.update(foreign=torch.zeros(1)), "unexpected foreign"),
        (lambda w: w.update(clip_std=torch.zeros(1, 5)), r"wrong shape clip_std \(1, 5\) instead of \(1, 12\)"),
        (lambda w: [w.pop(k) for k in list(w) if "blocks.1" in k], "and 12 more"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(change, match, tmp_path):
    save_prior(make("eclipse"), tmp_path / "prior")
    edit_weights(tmp_path / "prior", change)
    with pytest.raises(CheckpointError, match=match) as error:
        load_prior(tmp_path / "prior")
    assert WEIGHTS in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "not a prior's config"),
        ({"norm_in_type": "layer"}, "norm_in_type is 'layer'"),
        ({"num_layers": "DROP", "num_embeddings": "DROP"}, "num_layers, num_embeddings missing"),
        ({"additional_embeddings": 7}, "no prior can be built"),
        ({"num_layers": "two"}, "no prior can be built"),
    ],
)
def test_configs_that_do_not_describe_a_prior_are_refused(changes, match, tmp_path):
    save_prior(make("eclipse"), tmp_path / "prior")
    edit_config(tmp_path / "prior", **changes)
    with pytest.raises(CheckpointError, match=match):
        load_prior(tmp_path / "prior")


def test_missing_and_truncated_files_are_named(tmp_path):
    folder = tmp_path / "prior"
    with pytest.raises(CheckpointError, match=r"config\.json: no such file"):
        load_prior(folder)
    save_prior(make("eclipse"), folder)
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="safetensors: cannot be read"):
        load_prior(folder)
    (folder / WEIGHTS).unlink()
    for attempt in (load_prior, prior_hash):
        with pytest.raises(CheckpointError, match="safetensors: no such file"):
            attempt(folder)
