"""Generation with the shipped models and a random prior: what an image depends on, and what it does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eclipse.config.params import DecodeParams, EvaluateParams
from eclipse.data.control import canny
from eclipse.errors import CheckpointError, DataError
from eclipse.models.api import predict
from eclipse.models.checkpoint import save_prior
from eclipse.models.prior import EclipsePrior
from eclipse.personalize.generate import PlacedSubject, Request, encode, generate, load_clip, load_tools, predict_embeds

MINI = Path(__file__).resolve().parents[2] / "models" / "mini"
PARAMS = EvaluateParams(decode=DecodeParams(steps=2, guidance=2.0))
PROMPT = "a circle left of a heart and a circle"
CIRCLES, HEART = ((2, 8), (31, 37)), (19, 24)


def write_prior(folder: Path, encoder_hash: str | None, *, width: int = 96, extras: int = 4) -> Path:
    torch.manual_seed(0)
    prior = EclipsePrior(
        width, None, num_layers=1, num_attention_heads=2, attention_head_dim=16, additional_embeddings=extras
    )
    for parameter in prior.parameters():
        parameter.data.mul_(2)
    save_prior(prior, folder)
    if encoder_hash is not None:
        (folder / "training.json").write_text(json.dumps({"encoder_hash": encoder_hash}))
    return folder


@pytest.fixture(scope="module")
def clip():
    return load_clip(MINI)


@pytest.fixture(scope="module")
def tools(clip, tmp_path_factory):
    folder = write_prior(tmp_path_factory.mktemp("prior") / "p", clip.weights_hash)
    return load_tools(prior=folder, clip=clip, decoder=MINI / "decoder")


def picture(seed: int) -> np.ndarray:
    image = np.full((64, 64, 3), 255, np.uint8)
    image[16:48, 16:48] = np.random.default_rng(seed).integers(0, 255, 3)
    return image


def request(*seeds: int, **changes) -> Request:
    subjects = (PlacedSubject(CIRCLES[1], picture(0)), PlacedSubject(HEART, picture(1)))
    return replace(Request(PROMPT, seeds, subjects, canny(picture(2))), **changes)


class TestEncoding:
    def test_only_the_tokens_of_the_nouns_change(self, clip):
        plain = encode(clip, PROMPT, ())
        mixed = encode(clip, PROMPT, request(0).subjects)
        assert torch.equal(plain.prompt_embeds, mixed.prompt_embeds)
        wanted = plain.text_states.clone()
        words = PROMPT.split()  # all of them single tokens, after BOS
        assert len(wanted) == len(words) + 2
        wanted[1 + 8] = clip.encode_image(picture(0)[None])[0]
        wanted[1 + 5] = clip.encode_image(picture(1)[None])[0]
        assert torch.equal(mixed.text_states, wanted)

    def test_two_subjects_of_one_noun_are_two(self, clip):
        pair = [PlacedSubject(span, picture(i)) for i, span in enumerate(CIRCLES)]
        states = encode(clip, PROMPT, pair).text_states
        assert not torch.allclose(states[2], states[9])
        swapped = encode(clip, PROMPT, pair[::-1]).text_states
        assert torch.equal(states, swapped)

    def test_too_long_a_prompt_is_refused(self, clip):
        with pytest.raises(DataError, match="do not fit the context of 77"):
            encode(clip, "circle " * 76, ())


class TestSeeds:
    def test_a_picture_has_the_same_bits_whatever_is_drawn_beside_it(self, tools):
        together = generate(tools, request(7, 8, 9), PARAMS)
        assert together.shape == (3, 64, 64, 3) and together.dtype == np.uint8
        torch.rand(3)
        assert np.array_equal(generate(tools, request(7), PARAMS), together[:1])
        assert np.array_equal(generate(tools, request(9, 8), PARAMS), together[[2, 1]])
        assert not np.array_equal(together[0], together[1])

    def test_the_embeddings_are_the_priors_on_each_seed(self, tools):
        embeds = predict_embeds(tools, request(7, 8), PARAMS)
        captions = encode(tools.clip, PROMPT, request(0).subjects)
        control = tools.clip.encode_image(canny(picture(2))[None])
        for seed, row in zip((7, 8), embeds, strict=True):
            assert torch.equal(row[None], predict(tools.prior, captions, seeds=[seed], control_embeds=control))

    def test_without_edges_the_control_is_no_picture(self, tools):
        without = predict_embeds(tools, request(7, control=None), PARAMS)
        captions = encode(tools.clip, PROMPT, request(0).subjects)
        wanted = predict(tools.prior, captions, seeds=[7], control_embeds=tools.clip.encode_nothing())
        assert torch.equal(without, wanted)
        assert not torch.allclose(without, predict_embeds(tools, request(7), PARAMS))

    def test_every_subject_matters_and_order_does_not(self, tools):
        whole = predict_embeds(tools, request(7), PARAMS)
        subjects = request(7).subjects
        assert torch.equal(whole, predict_embeds(tools, request(7, subjects=subjects[::-1]), PARAMS))
        for some in ((), subjects[:1], subjects[1:]):
            assert not torch.allclose(whole, predict_embeds(tools, request(7, subjects=some), PARAMS))

    def test_edges_for_a_prior_that_was_trained_without_are_warned_of(self, clip, tmp_path, caplog):
        folder = write_prior(tmp_path / "p", clip.weights_hash)
        tools = load_tools(prior=folder, clip=clip, decoder=MINI / "decoder")
        for point, warned in (("lambda-0.2-edges", False), ("lambda-0.2", True)):
            record = {"encoder_hash": clip.weights_hash, "point": point}
            (folder / "training.json").write_text(json.dumps(record))
            predict_embeds(tools, request(7), PARAMS)
            assert bool(caplog.records) == warned


class TestFit:
    def test_a_prior_without_subjects_says_so(self, clip, tmp_path):
        folder = write_prior(tmp_path / "p", clip.weights_hash, extras=3)
        tools = load_tools(prior=folder, clip=clip, decoder=MINI / "decoder")
        for changes, what in (({"control": None}, "no subjects;"), ({"subjects": ()}, "no edges;"), ({}, "and no")):
            with pytest.raises(CheckpointError, match=rf"/p: a prior of kind eclipse takes .*{what}.*--prior"):
                predict_embeds(tools, request(1, **changes), PARAMS)
        assert generate(tools, request(1, subjects=(), control=None), PARAMS).shape == (1, 64, 64, 3)

    @pytest.mark.parametrize("recorded", ["f" * 64, None])
    def test_a_prior_of_another_clip_is_refused_unless_told(self, clip, tmp_path, caplog, recorded):
        folder = write_prior(tmp_path / "p", recorded)
        with pytest.raises(CheckpointError, match="--any-encoder"):
            load_tools(prior=folder, clip=clip, decoder=MINI / "decoder")
        assert not caplog.records
        load_tools(prior=folder, clip=clip, decoder=MINI / "decoder", any_encoder=True)
        assert "trained" in caplog.records[0].getMessage()

    def test_other_widths_are_refused_even_then(self, clip, tmp_path):
        folder = write_prior(tmp_path / "p", clip.weights_hash, width=64)
        with pytest.raises(CheckpointError, match="64 wide embeddings and 64 wide text states.*has 96 and 96"):
            load_tools(prior=folder, clip=clip, decoder=MINI / "decoder", any_encoder=True)
