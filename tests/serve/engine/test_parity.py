"""Pictures are those of the unmodified KandinskyV22Pipeline and embeddings those of ``eclipse generate``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import torch
from made_decoder import make_decoder
from made_jobs import drawing, events, job, pictures
from made_server import MINI

from eclipse.config.params import EvaluateParams
from eclipse.data.control import canny
from eclipse.models.decoder import Decoder, load_decoder
from eclipse.personalize.generate import PlacedSubject, Request, Tools, predict_embeds
from eclipse.personalize.interpolate import grid
from eclipse.serve.engine.stepper import Stepper
from eclipse.serve.types import Blend, Embedded, Job, Prompt, Wanted

SLOTS = 2
SEEDS = (3, 4)


@pytest.fixture(scope="module")
def shipped():
    """A decoder of its own for the pipeline's side, as decoding exchanges the pipeline's scheduler."""
    return loaded(MINI / "decoder")


def loaded(folder: Path) -> Decoder:
    return load_decoder(folder, device="cpu")


def embeds(count: int) -> torch.Tensor:
    return torch.randn(count, 96, generator=torch.Generator().manual_seed(5))


def latents_of_pipeline(decoder: Decoder, scheduler: str, steps: int, vectors, negative, guidance: float, seeds):
    decoder.pipeline.scheduler = decoder._scheduler(scheduler)
    return decoder.pipeline(
        image_embeds=vectors,
        negative_image_embeds=negative.expand(len(vectors), -1),
        height=64,
        width=64,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="latent",
    ).images


@torch.no_grad()
def latents_of_slots(decoder: Decoder, asked, vectors, negative, seeds) -> torch.Tensor:
    stepper = Stepper(decoder, 2 * SLOTS, exact=True)
    made = [decoder.begin(asked, seed, vector, negative[0]) for seed, vector in zip(seeds, vectors, strict=True)]
    while not made[0].finished:
        assert stepper.step(made) == {}
    return torch.cat([picture.latents for picture in made])


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two equal random decoders, one for each side."""
    folder = make_decoder(tmp_path_factory.mktemp("small") / "d", 96)
    return loaded(folder), loaded(folder)


class TestLatents:
    @pytest.mark.parametrize("steps", [1, 2, 5, 16])
    @pytest.mark.parametrize("scheduler", ["dpm++", "ddim", "ddpm"])
    @pytest.mark.parametrize("guidance", [1.0, 3.0])
    def test_equal_bit_for_bit_in_a_batch_of_the_same_shape(self, small, scheduler, steps, guidance):
        seeds = SEEDS if guidance > 1 else (*SEEDS, 5, 6)  # so that the pipeline's batch has as many rows
        vectors, negative = embeds(len(seeds)), embeds(1)
        asked = drawing(scheduler=scheduler, steps=steps, guidance=guidance)
        mine = latents_of_slots(small[0], asked, vectors, negative, seeds)
        theirs = latents_of_pipeline(small[1], scheduler, steps, vectors, negative, guidance, seeds)
        assert torch.equal(mine, theirs)

    def test_equal_with_the_shipped_decoder_too(self, decoder, shipped):
        vectors, negative = embeds(SLOTS), embeds(1)
        mine = latents_of_slots(decoder, drawing(), vectors, negative, SEEDS)
        assert torch.equal(mine, latents_of_pipeline(shipped, "dpm++", 3, vectors, negative, 3.0, SEEDS))

    @pytest.mark.parametrize("schedule", [
        {"prediction_type": "epsilon", "rescale_betas_zero_snr": False, "timestep_spacing": "leading"},
        {"variance_type": "learned_range", "prediction_type": "epsilon", "rescale_betas_zero_snr": False},
        {"variance_type": "fixed_small_log", "prediction_type": "sample", "clip_sample": True},
    ])  # fmt: skip
    @pytest.mark.parametrize("scheduler", ["dpm++", "ddim", "ddpm"])
    def test_other_noise_schedules_are_kept_too(self, tmp_path, scheduler, schedule):
        folder = make_decoder(tmp_path / "d", 96, **schedule)
        vectors, negative = embeds(SLOTS), embeds(1)
        mine = latents_of_slots(loaded(folder), drawing(scheduler=scheduler), vectors, negative, SEEDS)
        theirs = latents_of_pipeline(loaded(folder), scheduler, 3, vectors, negative, 3.0, SEEDS)
        assert torch.equal(mine, theirs)

    def test_a_lone_picture_in_the_pipeline_differs_by_rounding_only(self, decoder, shipped):
        vectors, negative = embeds(1), embeds(1)
        mine = latents_of_slots(decoder, drawing(), vectors, negative, SEEDS[:1])
        theirs = latents_of_pipeline(shipped, "dpm++", 3, vectors, negative, 3.0, SEEDS[:1])
        assert (mine - theirs).abs().max() < 2e-5


class TestPictures:
    @pytest.mark.parametrize("asked", [
        job(3, 4), job(3, scheduler="ddpm"), job(3, scheduler="ddim", guidance=1.0), job(3, height=32, width=96),
    ])  # fmt: skip
    def test_at_most_a_grey_level_from_the_decoders(self, running, clip, shipped, asked):
        with running() as engine:
            made = asyncio.run(pictures(engine, asked))
        theirs = pipeline_pictures(shipped, clip, asked, torch.stack([one.image_embeds for one in made]))
        for one, reference in zip(made, theirs, strict=True):
            assert one.image.shape == reference.shape
            assert np.abs(one.image.astype(int) - reference).max() <= 1
            assert one.finite and set(one.seconds) == {"queue", "text", "prior", "decoder"}


def pipeline_pictures(decoder: Decoder, clip, asked: Job, vectors: torch.Tensor) -> np.ndarray:
    wanted = asked.drawing
    decoder.pipeline.scheduler = decoder._scheduler(wanted.scheduler)
    images = decoder.pipeline(
        image_embeds=vectors,
        negative_image_embeds=clip.encode_nothing().expand(len(vectors), -1),
        height=wanted.height,
        width=wanted.width,
        num_inference_steps=wanted.steps,
        guidance_scale=wanted.guidance,
        generator=[torch.Generator().manual_seed(one.seed) for one in asked.wanted],
        output_type="np",
    ).images
    return np.rint(images * 255).astype(int)


def embedded(running, asked: Job) -> torch.Tensor:
    with running() as engine:
        found = asyncio.run(events(engine, asked))
    assert all(isinstance(event, Embedded) for event in found)
    return torch.stack([event.image_embeds for event in sorted(found, key=lambda event: event.index)])


class TestEmbeddings:
    @pytest.mark.parametrize("personal", [False, True])
    def test_equal_those_of_generate_bit_for_bit(self, running, clip, shipped, priors, tmp_path, personal):
        square = np.full((64, 64, 3), 200, np.uint8)
        square[20:50, 20:50] = 10
        subjects = (PlacedSubject((2, 6), square),) if personal else ()
        control, model = (canny(square), "subjects") if personal else (None, "text")
        prompt = "a star left of a blue heart"
        tools = Tools(clip, priors[model].prior, shipped, tmp_path)
        theirs = predict_embeds(tools, Request(prompt, (1, 2, 3), subjects, control), EvaluateParams())
        wanted = tuple(Wanted(Prompt(prompt, subjects, control), seed) for seed in (1, 2, 3))
        assert torch.equal(embedded(running, Job(model, wanted, None)), theirs)

    @pytest.mark.parametrize("mode", ["linear", "slerp"])
    def test_points_between_two_prompts_equal_those_of_interpolate(self, running, clip, priors, mode):
        ends = embedded(running, Job("text", tuple(Wanted(Prompt(text), 8) for text in ("a star", "two hearts")), None))
        blends = [Blend(Prompt("a star"), Prompt("two hearts"), at, mode) for at in (0.0, 0.25, 0.5, 0.75, 1.0)]
        found = embedded(running, Job("text", tuple(Wanted(blend, 8) for blend in blends), None))
        assert torch.equal(found, grid(ends, 5, mode)[0])
        assert torch.equal(found[[0, -1]], ends)

    def test_the_negative_prompts_embedding_is_what_guidance_leads_away_from(self, running, shipped):
        asked = job(6, negative_prompt="two hearts", steps=4)
        both = embedded(running, Job("text", (Wanted(Prompt("a red star"), 6), Wanted(Prompt("two hearts"), 6)), None))
        with running() as engine:
            made = asyncio.run(pictures(engine, asked))[0]
        reference = shipped.decode(both[:1], seeds=[6], steps=4, guidance=3.0, negative_embeds=both[1])[0]
        assert np.abs(made.image.astype(int) - reference).max() <= 1
        plain = shipped.decode(both[:1], seeds=[6], steps=4, guidance=3.0, negative_embeds=embeds(1))[0]
        assert np.abs(made.image.astype(int) - plain).max() > 1
