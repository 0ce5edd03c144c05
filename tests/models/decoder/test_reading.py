"""Decoders that read text, Karlo and Kandinsky 2.1, against the unmodified pipelines given the same text and noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import KandinskyPipeline, PriorTransformer, UnCLIPPipeline
from made_decoders import karlo_parts, make_kandinsky21, make_karlo

from eclipse.errors import CheckpointError, ConfigError, DataError
from eclipse.models.decoder import Drawing, Kandinsky21Decoder, KarloDecoder, load_decoder

P, STEPS = 16, 4
PROMPTS = ["a red cat", "two dogs on a beach", ""]
SEEDS = [5, 6, 7]
MAKERS = {"karlo": make_karlo, "kandinsky21": make_kandinsky21}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: make(tmp_path_factory.mktemp(name) / "d", P) for name, make in MAKERS.items()}


@pytest.fixture(scope="module")
def decoders(folders):
    return {name: load_decoder(folder, device="cpu") for name, folder in folders.items()}


@pytest.fixture(scope="module")
def embeds():
    return torch.randn(3, P, generator=torch.Generator().manual_seed(1))


def nothing():
    return torch.randn(1, P, generator=torch.Generator().manual_seed(2))


def far(a, b):
    return np.abs(a.astype(int) - b.astype(int)).max()


def draw(decoder, embeds, guidance=1.0, **changes):
    asked = {"seeds": SEEDS, "steps": STEPS, "prompts": PROMPTS, "guidance": guidance} | changes
    return decoder.decode(embeds, negative_embeds=decoder.negative(nothing) if guidance > 1 else None, **asked)


class GivenPrior(PriorTransformer):
    """Stands in for Karlo's own prior: says ``embeds`` whatever it is asked, and rewinds the noise to ``seeds``."""

    def post_process_latents(self, latents):
        for generator, seed in zip(self.generators, SEEDS, strict=True):
            generator.manual_seed(seed)
        return self.embeds


def by_karlo(embeds, guidance):
    prior = GivenPrior(2, 8, num_layers=1, embedding_dim=P)
    prior.generators, prior.embeds = [torch.Generator() for _ in SEEDS], embeds
    pipeline = UnCLIPPipeline(**karlo_parts(P) | {"prior": prior})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        PROMPTS, generator=prior.generators, prior_num_inference_steps=2, decoder_num_inference_steps=STEPS,
        prior_guidance_scale=1.0, decoder_guidance_scale=guidance, output_type="np",
    ).images  # fmt: skip


def by_kandinsky21(folder, embeds, guidance, scheduler):
    decoder = load_decoder(folder, device="cpu")
    pipeline: KandinskyPipeline = decoder.pipeline
    pipeline.scheduler = decoder._scheduler(scheduler)
    return pipeline(
        PROMPTS, embeds, nothing().expand(3, -1), height=64, width=64, num_inference_steps=STEPS,
        guidance_scale=guidance, generator=[torch.Generator().manual_seed(seed) for seed in SEEDS], output_type="np",
    ).images  # fmt: skip


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_karlo_equals_the_unmodified_pipeline(decoders, embeds, guidance):
    theirs = np.rint(by_karlo(embeds, guidance) * 255)
    mine = draw(decoders["karlo"], embeds, guidance)
    assert mine.shape == (3, 64, 64, 3) and theirs.std() > 20
    assert far(mine, theirs) <= 1


@pytest.mark.parametrize("scheduler", ["dpm++", "ddim", "ddpm"])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_kandinsky21_equals_the_unmodified_pipeline(folders, decoders, embeds, guidance, scheduler):
    theirs = np.rint(by_kandinsky21(folders["kandinsky21"], embeds, guidance, scheduler) * 255)
    mine = draw(decoders["kandinsky21"], embeds, guidance, scheduler=scheduler)
    assert theirs.std() > 20 and far(mine, theirs) <= 1


@pytest.mark.parametrize("name", MAKERS)
def test_a_picture_depends_on_its_own_embedding_seed_and_prompt_alone(decoders, embeds, name):
    decoder = decoders[name]
    together = draw(decoder, embeds, 3.0)
    assert far(together, draw(decoder, embeds, 3.0, batch_size=2)) <= 1
    alone = draw(decoder, embeds[1:2], 3.0, seeds=SEEDS[1:2], prompts=PROMPTS[1:2])
    assert far(together[1:2], alone) <= 1
    for changed in ({"seeds": [9]}, {"prompts": ["another prompt"]}):
        assert (
            far(alone, draw(decoder, embeds[1:2], 3.0, **{"seeds": SEEDS[1:2], "prompts": PROMPTS[1:2]} | changed)) > 2
        )
    assert far(alone, draw(decoder, embeds[:1], 3.0, seeds=SEEDS[1:2], prompts=PROMPTS[1:2])) > 2


def test_each_knows_what_stands_for_no_picture(decoders):
    learned = decoders["karlo"].pipeline.text_proj.learned_classifier_free_guidance_embeddings
    assert torch.equal(decoders["karlo"].negative(nothing)[0], learned)
    assert torch.equal(decoders["kandinsky21"].negative(nothing), nothing())


@torch.no_grad()
def test_a_negative_prompt_is_read_too(decoders, embeds):
    for decoder in decoders.values():
        drawn = []
        for negative in ("", "a blue heart"):
            drawing = Drawing(2, decoder.schedulers[0], 4.0, 64, 64, negative)
            sketch = decoder.begin(drawing, 1, embeds[0], nothing()[0], "a cat")
            while not sketch.finished:
                call = sketch.call()
                sketch.advance(decoder.call(call.network, *call.inputs))
            drawn.append(sketch.pixels()[0])
        assert far(*drawn) > 2


def test_karlos_prior_is_not_loaded(decoders):
    assert decoders["karlo"].pipeline.prior is None
    assert isinstance(decoders["karlo"], KarloDecoder) and isinstance(decoders["kandinsky21"], Kandinsky21Decoder)


def test_their_sizes_are_the_models(decoders):
    assert {(one.embedding_dim, one.image_size, one.wants_text) for one in decoders.values()} == {(P, 64, True)}


def test_refusals_say_what_to_do(decoders, embeds):
    karlo, kandinsky = decoders["karlo"], decoders["kandinsky21"]
    with pytest.raises(ConfigError, match=r"'dpm\+\+' is not right with this decoder; choose unclip"):
        draw(karlo, embeds, scheduler="dpm++")
    with pytest.raises(ConfigError, match=r"'unclip' is not right with this decoder; choose dpm\+\+, ddim, ddpm"):
        draw(kandinsky, embeds, scheduler="unclip")
    for decoder in decoders.values():
        with pytest.raises(DataError, match="no prompts for 3 embeddings"):
            draw(decoder, embeds, prompts=None)
        with pytest.raises(DataError, match="2 prompts for 3"):
            draw(decoder, embeds, prompts=["a", "b"])
    with pytest.raises(DataError, match="steps: 1; give 2 to 1000"):
        draw(karlo, embeds, steps=1)
    with pytest.raises(DataError, match="draws 64x64 only"):
        karlo.check(Drawing(4, "unclip", 1.0, 64, 128))


def test_other_pipelines_are_refused_naming_what_there_is(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(CheckpointError, match="KandinskyV22Pipeline, KandinskyPipeline or UnCLIPPipeline"):
        load_decoder(tmp_path)
