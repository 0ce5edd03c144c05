"""The published architectures, on the meta device: sizes, and what goes in and comes out.

``published.json`` holds the settings of diffusers' conversion scripts (convert_kandinsky_to_diffusers.py,
convert_kakao_brain_unclip_to_diffusers.py), and for Kandinsky 2.2 of the decoder's own unet/config.json. Public counts
agree: 1,253M (2.2 UNet), 1.22 billion (2.1 UNet) and 67M (MoVQ) in Kandinsky's README, "900M" in Karlo's configuration.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import diffusers
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from eclipse.models.decoder import Drawing, Kandinsky21Decoder, KandinskyV22Decoder, KarloDecoder
from eclipse.models.decoder.karlo import SUPER_RES_COST

PUBLISHED = json.loads((Path(__file__).parent / "published.json").read_text())


def build(name):
    with torch.device("meta"):
        return getattr(diffusers, PUBLISHED[name]["class"])(**PUBLISHED[name]["config"])


def pipeline(**parts):
    told = {
        "device": torch.device("meta"),
        "set_progress_bar_config": lambda **_: None,
        "maybe_free_model_hooks": lambda: None,
    }
    return SimpleNamespace(**parts, **told)


def kandinsky(kind, name):
    scheduler = diffusers.DDPMScheduler(beta_schedule="linear", beta_start=0.00085, beta_end=0.012)
    return kind(pipeline(unet=build(name), movq=build("kandinsky movq"), scheduler=scheduler, movq_scale_factor=8))


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters(name):
    assert sum(value.numel() for value in build(name).parameters()) == PUBLISHED[name]["parameters"]


@torch.no_grad()
def test_kandinsky22():
    decoder = kandinsky(KandinskyV22Decoder, "kandinsky-2-2 unet")
    assert (decoder.embedding_dim, decoder.image_size, decoder.channels) == (1280, 512, 4)
    meta = torch.device("meta")
    with FlopCounterMode(display=False) as counter:
        inputs = [torch.empty(shape, device=meta) for shape in ((1, 4, 64, 64), (1,), (1, 1280))]
        assert decoder.call("unet", *inputs).shape == (1, 8, 64, 64)
    assert counter.get_total_flops() / 1e12 == pytest.approx(0.856, abs=0.001)
    assert decoder.to_pixels(torch.empty(1, 4, 96, 64, device=meta)).shape == (1, 3, 768, 512)


@torch.no_grad()
def test_kandinsky21():
    decoder = kandinsky(Kandinsky21Decoder, "kandinsky-2-1 unet")
    assert (decoder.embedding_dim, decoder.image_size) == (768, 512)
    shapes = ((2, 4, 64, 64), (2,), (2, 768), (2, 768), (2, 77, 1024))
    assert decoder.call("unet", *(torch.empty(shape, device="meta") for shape in shapes)).shape == (2, 8, 64, 64)


@torch.no_grad()
def test_karlo():
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

    with torch.device("meta"):
        projection = UnCLIPTextProjModel(time_embed_dim=1280, cross_attention_dim=1536)
    projection.learned_classifier_free_guidance_embeddings = torch.nn.Parameter(torch.zeros(768))
    parts = {"decoder": build("karlo decoder"), "text_proj": projection}
    parts |= {name: build("karlo super-resolution") for name in ("super_res_first", "super_res_last")}
    decoder = KarloDecoder(
        pipeline(
            **parts, decoder_scheduler=diffusers.UnCLIPScheduler(), super_res_scheduler=diffusers.UnCLIPScheduler()
        )
    )
    assert (decoder.embedding_dim, decoder.image_size, decoder.sides()) == (768, 256, (3, 64, 256))
    flops = {}
    for network, shapes in {
        "decoder": ((1, 3, 64, 64), (1,), (1, 81, 1536), (1, 1280), (1, 81)),
        "super_res_first": ((1, 6, 256, 256), (1,)),
    }.items():
        with FlopCounterMode(display=False) as counter:
            output = decoder.call(network, *(torch.empty(shape, device="meta") for shape in shapes))
        flops[network] = counter.get_total_flops()
        assert output.shape == ((1, 6, 64, 64) if network == "decoder" else (1, 3, 256, 256))
    assert flops["super_res_first"] / flops["decoder"] == pytest.approx(SUPER_RES_COST, rel=0.01)
    assert decoder.cost(Drawing(25, "unclip", 8.0, 256, 256)) == 25 + 7 * SUPER_RES_COST
