"""The finetuning loop on a tiny random UNet."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path

import pytest
import torch
from made_decoder import make_decoder

from eclipse.config.subjects import FinetuneParams
from eclipse.errors import CheckpointError, TrainingError
from eclipse.models.decoder import load_decoder
from eclipse.personalize.finetune import Finetuner, Plan, draw, epsilon_of
from eclipse.personalize.finetune_data import Material

P = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_decoder(tmp_path_factory.mktemp("decoder") / "tiny", P)


@pytest.fixture(scope="module")
def material() -> Material:
    rng = torch.Generator().manual_seed(5)
    latents, embeds = torch.randn(3, 4, 16, 16, generator=rng), torch.randn(3, P, generator=rng)
    return Material(latents, embeds, (2, 1), ("a/0.png", "a/1.png", "b/0.png"))


def settings(**changes) -> FinetuneParams:
    return FinetuneParams(**{"lr": 1e-3, "batch_size": 2, "checkpoint_every": 2, **changes})


def start(folder: Path, material: Material, chosen: FinetuneParams, steps=4, seed=0, checkpoint=None) -> Finetuner:
    pipeline = load_decoder(folder, device="cpu").pipeline
    return Finetuner(pipeline.unet, pipeline.scheduler, material, Plan(chosen, steps, seed, "d" * 64, checkpoint))


def weights(tuner: Finetuner) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in tuner.unet.state_dict().items()}


def equal(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class TestEpsilon:
    # ᾱ = 0.64: √ᾱ = 0.8, √(1−ᾱ) = 0.6; x_0 = 2, ε = −1: x_t = 1.6 − 0.6 = 1, v = −0.8 − 1.2 = −2
    noisy, alphas = torch.full((1, 1, 1, 1), 1.0), torch.tensor([0.64])

    @pytest.mark.parametrize(("kind", "prediction"), [("epsilon", -1.0), ("v_prediction", -2.0), ("sample", 2.0)])
    def test_by_hand(self, kind, prediction):
        found = epsilon_of(torch.full((1, 1, 1, 1), prediction), self.noisy, self.alphas, kind)
        assert found.item() == pytest.approx(-1.0, abs=1e-6)

    @pytest.mark.parametrize(("kind", "weight"), [("epsilon", 1.0), ("v_prediction", 0.64), ("sample", 0.64 / 0.36)])
    def test_weight_of_an_error_by_hand(self, kind, weight):
        right = epsilon_of(torch.zeros(1, 1, 1, 1), self.noisy, self.alphas, kind)
        wrong = epsilon_of(torch.full((1, 1, 1, 1), 0.5), self.noisy, self.alphas, kind)
        assert (right - wrong).square().item() == pytest.approx(weight * 0.25, rel=1e-5)

    def test_pure_noise_is_its_own_epsilon_for_v(self):
        found = epsilon_of(torch.full((1, 1, 1, 1), 77.0), self.noisy, torch.tensor([0.0]), "v_prediction")
        assert found.item() == 1.0

    def test_each_row_has_its_own_alpha(self):
        v, noisy = torch.ones(2, 1, 1, 1), torch.zeros(2, 1, 1, 1)
        assert epsilon_of(v, noisy, torch.tensor([0.25, 1.0]), "v_prediction").flatten().tolist() == [0.5, 1.0]

    def test_agrees_with_the_scheduler(self, folder, material):
        scheduler = load_decoder(folder, device="cpu").pipeline.scheduler
        drawn = draw(material, scheduler.alphas_cumprod, 0, 0, 6)
        clean = material.latents[drawn.index]
        assert torch.allclose(drawn.noisy, scheduler.add_noise(clean, drawn.noise, drawn.times), atol=1e-5)
        v = scheduler.get_velocity(clean, drawn.noise, drawn.times)
        assert torch.allclose(epsilon_of(v, drawn.noisy, drawn.alphas, "v_prediction"), drawn.noise, atol=1e-4)

    def test_unknown_type_is_refused(self):
        with pytest.raises(CheckpointError, match="'flow'.*use epsilon"):
            epsilon_of(self.noisy, self.noisy, self.alphas, "flow")


def test_draw_depends_on_seed_and_step(material):
    alphas = torch.linspace(0.99, 0.01, 50)
    first = draw(material, alphas, 0, 3, 4)
    assert torch.equal(first.noise, draw(material, alphas, 0, 3, 4).noise)
    for other in (draw(material, alphas, 0, 4, 4), draw(material, alphas, 1, 3, 4)):
        assert not torch.equal(first.noise, other.noise)
    assert torch.equal(first.embeds, material.image_embeds[first.index])


def test_loss_is_the_mse_of_epsilon_of_the_first_half_of_the_channels(folder, material):
    tuner = start(folder, material, settings())
    batch = draw(material, tuner._alphas, 0, 0, 2)
    with torch.no_grad():
        out = tuner.unet(batch.noisy, batch.times, None, added_cond_kwargs={"image_embeds": batch.embeds}).sample
        a = batch.alphas.view(-1, 1, 1, 1)
        expected = (a.sqrt() * out[:, :4] + (1 - a).sqrt() * batch.noisy - batch.noise).square().mean()
        assert float(tuner._loss(batch, slice(0, 2))) == pytest.approx(float(expected), rel=1e-5)


def test_learns(folder):
    rng = torch.Generator().manual_seed(5)
    flat = 2 * torch.randn(2, 4, 1, 1, generator=rng).expand(2, 4, 16, 16).contiguous()
    easy = Material(flat, torch.randn(2, P, generator=rng), (1, 1), ("a", "b"))
    tuner = start(folder, easy, settings(lr=3e-3), steps=24)
    fixed = draw(easy, tuner._alphas, 99, 0, 8)
    with torch.no_grad():
        before = float(tuner._loss(fixed, slice(0, 8)))
    rows = tuner.run().rows
    with torch.no_grad():
        assert float(tuner._loss(fixed, slice(0, 8))) < 0.6 * before
    assert [row["step"] for row in rows] == list(range(1, 25))


def gradients(folder, material, **changes):
    tuner = start(folder, material, settings(**changes))
    loss = tuner._backward(draw(material, tuner._alphas, 0, 0, 4))
    return float(loss), {name: p.grad for name, p in tuner.unet.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    "changes", [{"batch_size": 2, "accumulate": 2}, {"batch_size": 4, "gradient_checkpointing": True}]
)
def test_accumulation_and_checkpointing_change_no_gradient(folder, material, changes):
    loss, whole = gradients(folder, material, batch_size=4)
    again, parts = gradients(folder, material, **changes)
    assert again == pytest.approx(loss, rel=1e-5)
    assert whole.keys() == parts.keys()
    for name, gradient in whole.items():
        assert torch.allclose(parts[name], gradient, atol=1e-6), name


def test_gradient_checkpointing_really_recomputes_and_is_off_afterwards(folder, material):
    tuner = start(folder, material, settings(gradient_checkpointing=True), steps=1)
    assert tuner.unet.is_gradient_checkpointing
    tuner.run()
    assert not tuner.unet.is_gradient_checkpointing


def test_resumes_bit_by_bit(folder, material, tmp_path):
    path = tmp_path / "state.pt"
    chosen = settings(ema=0.5)
    whole = start(folder, material, chosen, steps=5)
    whole.run()
    stopped = start(folder, material, chosen, steps=5, checkpoint=path)
    for step in range(2):
        stopped._step(step)
    stopped._save()
    again = start(folder, material, chosen, steps=5, checkpoint=path)
    assert again.state.step == 2
    rows = again.run().rows
    assert equal(weights(whole), weights(again))
    assert [row["step"] for row in rows] == [3, 4, 5]


def test_state_of_another_run_is_refused(folder, material, tmp_path):
    path = tmp_path / "state.pt"
    start(folder, material, settings(), checkpoint=path)._save()
    pipeline = load_decoder(folder, device="cpu").pipeline
    with pytest.raises(CheckpointError, match="another configuration"):
        Finetuner(pipeline.unet, pipeline.scheduler, material, Plan(settings(), 4, 0, "e" * 64, path))


def test_sigterm_leaves_a_checkpoint_and_exit_code_75(folder, material, tmp_path, monkeypatch):
    path = tmp_path / "state.pt"
    whole = start(folder, material, settings())
    whole.run()
    tuner = start(folder, material, settings(checkpoint_every=100), checkpoint=path)
    step = tuner._step

    def interrupted(number):
        if number == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(number)

    monkeypatch.setattr(tuner, "_step", interrupted)
    with pytest.raises(SystemExit) as stopped:
        tuner.run()
    assert stopped.value.code == 75
    again = start(folder, material, settings(), checkpoint=path)
    assert again.state.step == 2
    again.run()
    assert equal(weights(whole), weights(again))


def test_moving_average_by_hand(folder, material):
    tuner = start(folder, material, settings(ema=0.9))
    before = weights(tuner)
    tuner._step(0)
    after = weights(tuner)
    name = "conv_in.weight"
    # decay of the first step: min(0.9, (1 + 0) / (10 + 0)) = 0.1
    expected = 0.1 * before[name] + 0.9 * after[name]
    assert torch.allclose(tuner.state.average.weights[name], expected, atol=1e-6)
    averaged, plain = start(folder, material, settings(ema=0.9)), start(folder, material, settings())
    averaged.run()
    plain.run()
    assert torch.equal(averaged.unet.state_dict()[name], averaged.state.average.weights[name])
    assert not torch.equal(averaged.unet.state_dict()[name], plain.unet.state_dict()[name])


def test_not_finite_names_step_and_pictures_and_touches_no_weight(folder, material):
    bad = Material(material.latents.clone(), material.image_embeds, material.counts, material.names)
    bad.latents[2, 0, 0, 0] = math.inf
    tuner = start(folder, bad, settings())
    before = weights(tuner)
    with pytest.raises(TrainingError, match=r"step 1: .*b/0\.png; lower finetune\.lr"):
        tuner.run()
    assert equal(before, weights(tuner))


class TestLora:
    def tuned(self, folder, material, steps=3, **changes):
        return start(folder, material, settings(lora_rank=2, **changes), steps=steps)

    def test_starts_as_the_unet_was_and_trains_attention_only(self, folder, material):
        plain, tuner = start(folder, material, settings()), self.tuned(folder, material)
        batch = draw(material, tuner._alphas, 0, 0, 2)
        with torch.no_grad():
            assert torch.allclose(plain._loss(batch, slice(0, 2)), tuner._loss(batch, slice(0, 2)), atol=1e-6)
        trained = [name for name, p in tuner.unet.named_parameters() if p.requires_grad]
        assert trained and all("lora_" in name for name in trained)
        adapted = {name.partition(".lora_")[0].partition("attentions.")[2].partition(".")[2] for name in trained}
        assert adapted == {"to_q", "to_k", "to_v", "to_out.0"}

    def test_merged_computes_what_the_adapters_did(self, folder, material):
        tuner, before = self.tuned(folder, material), weights(start(folder, material, settings()))
        for step in range(3):
            tuner._step(step)
        batch = draw(material, tuner._alphas, 9, 9, 4)

        def predict():
            with torch.no_grad():
                return tuner.unet(
                    batch.noisy, batch.times, None, added_cond_kwargs={"image_embeds": batch.embeds}
                ).sample

        unmerged = predict()
        tuner._finish()
        assert torch.allclose(predict(), unmerged, atol=1e-5)
        after = weights(tuner)
        assert after.keys() == before.keys()
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert changed and all("attentions" in name and name.endswith(".weight") for name in changed)

    def test_resumes_and_averages(self, folder, material, tmp_path):
        path = tmp_path / "state.pt"
        whole = self.tuned(folder, material, ema=0.9)
        whole.run()
        stopped = start(folder, material, settings(lora_rank=2, ema=0.9), steps=3, checkpoint=path)
        stopped._step(0)
        stopped._save()
        again = start(folder, material, settings(lora_rank=2, ema=0.9), steps=3, checkpoint=path)
        again.run()
        assert equal(weights(whole), weights(again))
