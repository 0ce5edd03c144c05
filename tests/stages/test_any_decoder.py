"""Stages with a decoder by reference, and with decoders that read text."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import constants
from made_decoders import make_kandinsky21, make_karlo
from made_server import MINI, REPOSITORY, make_prior
from PIL import Image

from eclipse.config import load_params
from eclipse.errors import CheckpointError, ConfigError
from eclipse.evaluate.generate import decode_prompts
from eclipse.evaluate.split import Tools
from eclipse.files import tree_digest, write_json
from eclipse.models.decoder.reference import pin
from eclipse.stages import finetune, generate, interpolate

SOURCE, REVISION = "some-one/mini", "0123456789" * 4


def params(*changes):
    return load_params(REPOSITORY / "params.yaml", ["evaluate.decode.steps=2", "finetune.batch_size=2", *changes])


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prior") / "p"
    make_prior(folder, "eclipse")
    return folder


@pytest.fixture
def frozen(tmp_path, monkeypatch):
    """The shipped models, the decoder by reference to a cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    shutil.copytree(MINI / "decoder", tmp_path / f"hub/models--some-one--mini/snapshots/{REVISION}")
    folder = tmp_path / "frozen"
    shutil.copytree(MINI / "clip", folder / "clip")
    write_json(folder / "decoder.json", asdict(pin(SOURCE, REVISION)))
    return folder


def with_decoder(folder, make):
    shutil.copytree(MINI / "clip", folder / "clip")
    shutil.copytree(MINI / "oracle", folder / "oracle")
    make(folder / "decoder", 96)
    return folder


def test_generate_draws_the_same_by_reference(frozen, prior, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for where, out in ((frozen, "reference"), (MINI, "inside")):
        generate.run(params(), prompt="a star", prior=prior, frozen=where, out=tmp_path / out)
    first, second = ((tmp_path / out / "0001.png").read_bytes() for out in ("reference", "inside"))
    assert first == second


def test_interpolate_names_the_decoder_by_its_digest(frozen, prior, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump([{"prompt": "a star"}, {"prompt": "a heart"}]))
    asked = {"grid": tmp_path / "grid.yaml", "steps": 2, "prior": prior, "out": tmp_path / "grid.png"}
    record = interpolate.run(params(), frozen=frozen, **asked)
    reference = json.loads((frozen / "decoder.json").read_text())
    assert record["decoder_digest"] == pin(SOURCE, REVISION).digest and set(reference["files"]) >= {"unet/config.json"}
    inside = interpolate.run(params(), frozen=MINI, **asked)
    assert inside["decoder_digest"] == tree_digest(MINI / "decoder")
    assert inside["picture_sha256"] == record["picture_sha256"]


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "toy.png")
    return (f"toy={tmp_path / 'toy.png'}",)


def test_a_decoder_by_reference_can_be_finetuned(frozen, photo, tmp_path):
    out = tmp_path / "out"
    finetune.run(params(), concept=photo, steps=1, out=out, frozen=frozen, checkpoints=tmp_path / "states")
    assert (out / "finetune.json").is_file() and not (out / "unet/diffusion_pytorch_model.safetensors").is_symlink()


@pytest.mark.parametrize(("make", "kind"), [(make_karlo, "UnCLIPPipeline"), (make_kandinsky21, "KandinskyPipeline")])
def test_decoders_that_read_text_are_not_finetuned(tmp_path, photo, make, kind):
    frozen = with_decoder(tmp_path / "frozen", make)
    with pytest.raises(CheckpointError, match=f"is a {kind}, whose UNet also reads a prompt.*KandinskyV22Pipeline"):
        finetune.run(params(), concept=photo, steps=1, out=tmp_path / "o", frozen=frozen, checkpoints=tmp_path / "c")


@pytest.mark.parametrize("make", [make_karlo, make_kandinsky21])
def test_evaluation_and_generation_hand_it_the_captions(tmp_path, prior, make, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frozen = with_decoder(tmp_path / "frozen", make)
    sampler = "evaluate.decode.scheduler=" + {make_karlo: "unclip", make_kandinsky21: "ddim"}[make]
    settings = params(sampler)
    tools = Tools.load(frozen, settings.evaluate, images=2, memory=settings.decoder)
    assert torch.equal(torch.from_numpy(tools.negative), tools.decoder.negative(tools.judge.clip.encode_nothing))
    embeds = np.ones((2, 96), np.float32)
    drawn = decode_prompts(tools.decoder, embeds, [1, 1], settings.evaluate.decode, tools.negative, ["a", "a red star"])
    assert np.abs(drawn[0].astype(int) - drawn[1]).max() > 2
    for prompt, out in (("a", "first"), ("a red star", "second")):
        generate.run(settings, prompt=prompt, prior=prior, frozen=frozen, out=tmp_path / out)
    assert (tmp_path / "first/0001.png").read_bytes() != (tmp_path / "second/0001.png").read_bytes()
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump([{"prompt": "a star"}, {"prompt": "a heart"}]))
    record = interpolate.run(
        settings, frozen=frozen, grid=tmp_path / "grid.yaml", steps=2, prior=prior, out=tmp_path / "grid.png"
    )
    told = record["smoothness"]["image"]
    assert (told["ratio"] is None) == (make is make_karlo) and ("no MoVQ" in str(told["reason"])) == (
        make is make_karlo
    )


def test_a_sampler_that_is_not_right_with_it_is_told_before_anything_is_drawn(tmp_path):
    frozen = with_decoder(tmp_path / "frozen", make_karlo)
    with pytest.raises(ConfigError, match=r"'dpm\+\+' is not right with this decoder; choose unclip"):
        Tools.load(frozen, params().evaluate, images=1)
