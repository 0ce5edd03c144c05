"""The loop: exact under micro-batching, deterministic, refusing what is not finite, and pinned by a golden curve."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from eclipse.embeddings.batch import Batch
from eclipse.embeddings.loader import BatchOrder
from eclipse.errors import ConfigError, DataError, TrainingError
from eclipse.models.diffusion import build_diffusion, fit_normalisation
from eclipse.models.packing import pad
from eclipse.train.diffusion import DiffusionObjective
from eclipse.train.distributed import World
from eclipse.train.loop import Plan, Trainer
from eclipse.train.objective import Targets, Terms, draw
from tests.train.tiny import (
    ALONE,
    METHODS,
    RECORDS,
    WIDTH,
    Memory,
    embedded,
    fit,
    gradients,
    lambda_objective,
    objective,
    settings,
    tiny_prior,
    trainer,
    vectors,
)

GOLDEN = [2.63548, 1.96663, 2.29059, 1.73747, 2.00295, 1.65179, 1.97769, 1.81861, 1.99963, 1.82098]
GOLDEN += [1.77086, 1.87649, 1.38093, 1.44236, 1.85548, 1.48681, 1.53595, 1.78257, 1.44316, 1.69767]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [1, 3, 4, 7])
def test_micro_batches_give_the_whole_batch_gradient(size: int, method: str):
    whole, parts = (gradients(Plan(settings(micro_batch=part), METHODS[method], 0)) for part in (None, size))
    assert whole.keys() == parts.keys()
    for name, gradient in whole.items():
        assert torch.allclose(parts[name], gradient, rtol=1e-10, atol=1e-12), name


def slowly_interleaved(batch: Batch) -> torch.Tensor:
    """Token by token."""
    states, ends, subjects = batch.text_states.clone(), batch.lengths.cumsum(0).tolist(), batch.subjects
    for i in range(len(subjects)):
        caption = int(subjects.owner[i])
        first = ends[caption] - int(batch.lengths[caption])
        for token in range(int(subjects.start[i]), int(subjects.start[i] + subjects.length[i])):
            states[first + token] = subjects.embeds[i]
    return states


@pytest.mark.parametrize("method", METHODS)
def test_gradient_is_that_of_the_padded_form(method: str):
    """Against diffusers' padded forward pass and torch's own losses, from scratch."""
    trained = gradients(Plan(settings(), METHODS[method], 0))
    subjects = method == "lambda"
    prior, source = tiny_prior(control=subjects).double(), Memory(embedded(), torch.float64, subjects)
    batch = source.gather(BatchOrder(RECORDS, 8, 0).at(0))
    states, control = batch.text_states, None
    drawn = draw(0, 0, 8, WIDTH, torch.device("cpu"))
    if subjects:
        states = slowly_interleaved(batch)
        dropped = [bool(u < 0.4) for u in drawn.uniform[:, 1]]
        control = torch.stack([vectors(3) if gone else batch.control_embeds[i] for i, gone in enumerate(dropped)])
        assert len(batch.subjects) > 4 and not torch.equal(states, batch.text_states) and 0 < sum(dropped) < 8
    noise = drawn.noise.double()
    predicted = prior.forward_padded(noise, batch.prompt_embeds, *pad(states, batch.lengths), control)
    cosine = torch.cosine_similarity(predicted[:, None], batch.prompt_embeds[None], dim=-1)
    contrastive = torch.nn.CrossEntropyLoss()(cosine / 0.1, torch.arange(8))
    (torch.nn.MSELoss()(predicted, batch.image_embeds) + contrastive).backward()
    named = dict(prior.named_parameters())
    assert trained.keys() == {name for name, parameter in named.items() if parameter.grad is not None}
    for name, gradient in trained.items():
        assert torch.allclose(gradient, named[name].grad, rtol=1e-8, atol=1e-12), name


def test_without_edges_the_control_is_no_picture_always():
    never, dropped, seen = (
        gradients(Plan(settings(), lambda_objective(edges=edges, drop=drop), 0))
        for edges, drop in ((False, 0.0), (True, 1.0), (True, 0.0))
    )
    assert all(torch.equal(never[name], dropped[name]) for name in never)
    assert not torch.allclose(seen["embedding_control.weight"], dropped["embedding_control.weight"])


def test_lambda_eclipse_refuses_data_without_subjects_or_edges():
    plan = Plan(settings(), lambda_objective(), 0)
    with pytest.raises(DataError, match="subjects: the batch has none; annotate"):
        trainer(plan, Memory(embedded())).run()
    part = replace(Memory(embedded(), subjects=True).gather(np.arange(8)), control_embeds=None)
    targets = Targets(part.prompt_embeds, torch.arange(8))
    with pytest.raises(DataError, match="control_embeds: the batch has none"):
        plan.objective(tiny_prior(control=True), part, targets, draw(0, 0, 8, WIDTH, torch.device("cpu")))


def test_same_seed_same_weights_other_seed_others():
    plan = Plan(settings(), objective(), 0)
    first, second = fit(plan).prior.state_dict(), fit(plan).prior.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = fit(Plan(settings(), objective(), 1)).prior.state_dict()
    assert not torch.equal(first["proj_in.weight"], other["proj_in.weight"])


def test_noise_depends_on_seed_and_step_only():
    cpu = torch.device("cpu")
    assert torch.equal(draw(1, 2, 8, 4, cpu).noise, draw(1, 2, 8, 4, cpu).noise)
    assert not torch.equal(draw(1, 2, 8, 4, cpu).noise, draw(1, 3, 8, 4, cpu).noise)
    assert not torch.equal(draw(1, 2, 8, 4, cpu).noise, draw(2, 2, 8, 4, cpu).noise)
    assert not torch.equal(draw(1, 2, 8, 4, cpu).noise, draw(2, 1, 8, 4, cpu).noise)


def test_golden_curve():
    """First twenty losses; a change here changes every result of the platform."""
    rows = fit(Plan(settings(steps=20), objective(), 0)).rows
    assert [row["loss"] for row in rows] == pytest.approx(GOLDEN, abs=1e-4)


def test_learns():
    rows = fit(Plan(settings(steps=100, probe_every=99), objective(0.05), 0)).rows
    assert rows[-1]["mse"] < 0.5 * rows[0]["mse"]
    assert rows[-1]["cos_image"] > rows[-1]["cos_shuffled"] + 0.3


def test_curve_has_first_last_and_every_nth_step():
    rows = fit(Plan(settings(steps=6, probe_every=2), objective(), 0)).rows
    assert [row["step"] for row in rows] == [1, 3, 5, 6]
    assert rows[0]["lr"] == pytest.approx(1e-2) and all(row["seconds"] > 0 for row in rows)


def test_moving_average_is_what_comes_out():
    trained = fit(Plan(settings(ema=0.9), objective(), 0))
    plain = fit(Plan(settings(), objective(), 0))
    assert trained.average is not None
    weights = trained.prior.state_dict()
    assert torch.equal(weights["proj_in.weight"], trained.average.weights["proj_in.weight"])
    assert not torch.equal(weights["proj_in.weight"], plain.prior.state_dict()["proj_in.weight"])


def test_bf16_stays_near_fp32_and_keeps_fp32_weights():
    half = fit(Plan(settings(steps=3, precision="bf16"), objective(), 0))
    full = fit(Plan(settings(steps=3), objective(), 0))
    assert all(p.dtype == torch.float32 for p in half.prior.parameters())
    assert half.rows[-1]["loss"] == pytest.approx(full.rows[-1]["loss"], rel=0.05)


@pytest.mark.parametrize("name", ["image_embeds", "prompt_embeds", "states"])
def test_nan_in_the_data_names_step_field_and_record(name: str):
    data = embedded()
    record = int(BatchOrder(RECORDS, 8, 0).at(3)[5])
    row = int(np.cumsum(data.lengths)[record] - 1) if name == "states" else record
    getattr(data, name)[row, 0] = float("nan")
    made = trainer(Plan(settings(), objective(), 0), Memory(data))
    field = "text_states" if name == "states" else name
    with pytest.raises(TrainingError, match=rf"^step 4: {field} of records {record} \(.*stage embed"):
        made.run()
    assert made.state.step == 3


def test_diverging_loss_is_refused_before_the_weights_are_touched():
    made = trainer(Plan(settings(), objective(), 0))
    with torch.no_grad():
        made.state.prior.proj_in.weight.fill_(1e38)
    before = made.state.prior.norm_out.weight.clone()
    with pytest.raises(TrainingError, match="step 1: loss .* lower train.lr"):
        made.run()
    assert torch.equal(made.state.prior.norm_out.weight, before)


def test_prior_of_other_width_is_refused():
    plan = Plan(settings(), objective(), 0)
    with pytest.raises(DataError, match="shape"):
        Trainer(tiny_prior(width=24), Memory(embedded()), BatchOrder(RECORDS, 8, 0), plan, ALONE).run()


def test_batch_that_ranks_cannot_share_is_refused():
    world = World(0, 3, torch.device("cpu"))
    with pytest.raises(ConfigError, match=r"train.batch_size \(8\) must be a multiple .* \(3\)"):
        world.share(8)


def test_diffusion_baseline_trains_its_own_loss():
    torch.manual_seed(0)
    prior = build_diffusion(WIDTH, num_layers=1, num_attention_heads=2, attention_head_dim=8, train_steps=100)
    data = embedded()
    fit_normalisation(prior, data.image_embeds)
    chosen = settings(steps=100, probe_every=5, ema=0.9)
    method = DiffusionObjective(Terms(0.1, "mean", 64), prior, condition_drop=0.2)
    rows = Trainer(prior, Memory(data), BatchOrder(RECORDS, 8, 0), Plan(chosen, method, 0), ALONE).run().rows
    losses = [row["mse"] for row in rows]
    assert np.mean(losses[-6:]) < 0.85 * np.mean(losses[:3])
    assert all(row["loss"] == row["mse"] for row in rows)
    assert torch.allclose(prior.clip_mean, data.image_embeds.mean(0, keepdim=True), atol=1e-5)
