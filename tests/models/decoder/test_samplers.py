"""Which samplers are right with which decoder, against a world whose denoiser and answer are known exactly.

Data are N(0, s²) in each number; then ε̂ = √(1−ᾱ)·x / (ᾱs² + 1 − ᾱ) is the best a network can say, and the
probability-flow ODE takes x_T to x_T · s / √(ᾱ_T s² + 1 − ᾱ_T).
"""

from __future__ import annotations

import diffusers
import pytest
import torch
from made_decoder import make_decoder
from made_decoders import make_kandinsky21, make_karlo

from eclipse.models.decoder import Drawing, load_decoder
from eclipse.models.decoder.samplers import SCHEDULERS, make_scheduler

P, S = 16, 0.3
PUBLISHED = {  # Kandinsky's own schedule
    "beta_schedule": "linear", "beta_start": 0.00085, "beta_end": 0.012, "prediction_type": "epsilon",
    "rescale_betas_zero_snr": False, "timestep_spacing": "leading",
}  # fmt: skip


@pytest.fixture(scope="module")
def decoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoders")
    return {
        "kandinsky22": load_decoder(make_decoder(folder / "22", P, variance_type="learned_range", **PUBLISHED)),
        "kandinsky21": load_decoder(make_kandinsky21(folder / "21", P)),
        "karlo": load_decoder(make_karlo(folder / "karlo", P)),
    }


def best(alphas):
    """The perfect network: ε̂, and a variance half-way between its bounds, for as many channels again."""

    def call(network, noisy, times, *conditions):
        a = alphas[times].view(-1, 1, 1, 1)
        epsilon = (1 - a).sqrt() * noisy / (a * S**2 + 1 - a)
        return torch.cat([epsilon, torch.zeros_like(epsilon)], dim=1)

    return call


def plain(scheduler):
    """Its schedule without a learned variance, which only ancestral sampling has a use for."""
    return {key: value for key, value in scheduler.config.items() if key != "variance_type"}


def drawn(decoder, monkeypatch, scheduler, steps, until, count=24):
    """Latents before and after ``until`` steps, [count, C, h, w] each, of a decoder with the perfect network."""
    alphas = getattr(decoder.pipeline, "scheduler", None) or decoder.pipeline.decoder_scheduler
    monkeypatch.setattr(decoder, "call", best(alphas.alphas_cumprod))
    size = decoder.image_size
    sketches = [decoder.begin(Drawing(steps, scheduler, 1.0, size, size), i, torch.zeros(P)) for i in range(count)]
    before = torch.cat([sketch.latents for sketch in sketches])
    for sketch in sketches:
        while sketch.done < until:
            call = sketch.call()
            sketch.advance(decoder.call(call.network, *call.inputs))
    return before, torch.cat([sketch.latents for sketch in sketches]), alphas.alphas_cumprod


@torch.no_grad()
@pytest.mark.parametrize(("scheduler", "steps", "close"), [("dpm++", 20, 0.02), ("ddim", 200, 0.04)])
@pytest.mark.parametrize("name", ["kandinsky22", "kandinsky21"])
def test_the_deterministic_ones_follow_the_ode(decoders, monkeypatch, name, scheduler, steps, close):
    before, after, alphas = drawn(decoders[name], monkeypatch, scheduler, steps, steps, count=2)
    exact = before * S / (alphas[-1] * S**2 + 1 - alphas[-1]).sqrt()
    assert (after - exact).abs().max() < close * exact.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("name", ["kandinsky22", "kandinsky21"])
def test_ddpm_draws_from_the_data(decoders, monkeypatch, name):
    _, after, _ = drawn(decoders[name], monkeypatch, "ddpm", 100, 100)
    assert abs(float(after.std()) / S - 1) < 0.15  # of 100 steps of 1000


@torch.no_grad()
def test_unclip_draws_from_the_data(decoders, monkeypatch):
    decoder = decoders["karlo"]
    monkeypatch.setattr("eclipse.models.decoder.karlo._enlarged", lambda pixels, side: pixels)
    kept = []
    monkeypatch.setattr(
        "eclipse.models.decoder.karlo.KarloSketch._enlarge", lambda sketch: kept.append(sketch.latents.clone())
    )
    drawn(decoder, monkeypatch, "unclip", 100, 100, count=8)
    assert abs(float(torch.cat(kept).std()) / S - 1) < 0.05


@torch.no_grad()
@pytest.mark.parametrize("kind", ["EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"])
def test_euler_is_silently_wrong_in_kandinskys_pipelines(decoders, monkeypatch, kind):
    decoder = decoders["kandinsky22"]
    pipeline = decoder.pipeline
    perfect = best(pipeline.scheduler.alphas_cumprod)
    monkeypatch.setattr(
        pipeline.unet, "forward",
        lambda sample, timestep, **_: (perfect("unet", sample, timestep.long().expand(len(sample))),),
    )  # fmt: skip
    monkeypatch.setattr(pipeline, "scheduler", getattr(diffusers, kind).from_config(plain(pipeline.scheduler)))
    images = pipeline(
        torch.zeros(4, P), None, height=64, width=64, num_inference_steps=50, guidance_scale=1.0, output_type="latent",
        generator=torch.Generator().manual_seed(0),
    ).images  # fmt: skip
    assert abs(float(images.std()) / S - 1) > 0.2


@pytest.mark.parametrize(
    "kind", ["UniPCMultistepScheduler", "DEISMultistepScheduler", "PNDMScheduler", "HeunDiscreteScheduler"]
)
def test_others_raise_in_kandinskys_pipelines(decoders, monkeypatch, kind):
    pipeline = decoders["kandinsky22"].pipeline
    monkeypatch.setattr(pipeline, "scheduler", getattr(diffusers, kind).from_config(plain(pipeline.scheduler)))
    with pytest.raises(TypeError, match="generator"):
        pipeline(torch.zeros(1, P), None, height=64, width=64, num_inference_steps=10, guidance_scale=1.0)


@pytest.mark.parametrize("kind", [*SCHEDULERS.values(), diffusers.EulerDiscreteScheduler])
def test_karlos_loop_takes_no_other_sampler(decoders, monkeypatch, kind):
    decoder = decoders["karlo"]
    settings = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"}
    monkeypatch.setattr(decoder.pipeline, "decoder_scheduler", kind(**settings))
    with pytest.raises(TypeError, match="prev_timestep"), torch.no_grad():
        decoder.decode(torch.zeros(1, P), seeds=[0], steps=3, prompts=["a"])


def test_karras_spacing_is_chosen_where_the_schedule_ends_at_a_finite_sigma_and_says_nothing():
    plain = {"beta_schedule": "linear", "num_train_timesteps": 1000}
    assert make_scheduler("dpm++", plain).config.use_karras_sigmas is True
    assert make_scheduler("dpm++", plain | {"use_karras_sigmas": False}).config.use_karras_sigmas is False
    assert make_scheduler("dpm++", plain | {"rescale_betas_zero_snr": True}).config.use_karras_sigmas is False
    assert make_scheduler("dpm++", plain | {"use_lu_lambdas": True}).config.use_karras_sigmas is False
