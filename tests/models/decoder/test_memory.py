import numpy as np
import pytest
import torch
from made_decoder import make_decoder
from made_decoders import make_kandinsky21, make_karlo

from eclipse.config.decoder import DecoderParams
from eclipse.errors import ConfigError
from eclipse.models.decoder import load_decoder
from eclipse.models.decoder.memory import (
    RESERVE,
    choose_offload,
    decode_bytes,
    free_bytes,
    part_bytes,
    wants_tiles,
    weights_type,
)

P = 12
PARTS = {"unet": 2_500_000_000, "movq": 270_000_000}
MAKERS = {"kandinsky22": make_decoder, "kandinsky21": make_kandinsky21, "karlo": make_karlo}


def test_auto_keeps_what_there_is_room_for():
    whole = sum(PARTS.values()) + RESERVE
    largest = max(PARTS.values()) + RESERVE
    assert choose_offload("auto", PARTS, whole) == "none"
    assert choose_offload("auto", PARTS, whole - 1) == "model"
    assert choose_offload("auto", PARTS, largest) == "model"
    assert choose_offload("auto", PARTS, largest - 1) == "sequential"
    assert choose_offload("auto", PARTS, None) == "none"


@pytest.mark.parametrize("asked", ["none", "model", "sequential"])
def test_what_is_asked_for_is_done_whatever_there_is(asked):
    assert choose_offload(asked, PARTS, 0) == choose_offload(asked, PARTS, 10**12) == asked


@pytest.mark.parametrize("asked", ["model", "sequential"])
def test_a_cpu_has_nowhere_to_offload_from(asked, tmp_path):
    with pytest.raises(ConfigError, match=f"decoder.offload: {asked}"):
        load_decoder(make_decoder(tmp_path / "d", P), DecoderParams(offload=asked), device="cpu")


def test_types_of_weights():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert (weights_type("auto", cpu), weights_type("auto", gpu)) == (torch.float32, torch.float16)
    assert weights_type("bf16", cpu) == torch.bfloat16 and weights_type("fp32", gpu) == torch.float32


def test_memory_that_pytorch_keeps_for_reuse_is_free(monkeypatch):
    for name, value in {"mem_get_info": (100, 1000), "memory_reserved": 700, "memory_allocated": 600}.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert free_bytes(torch.device("cuda")) == 100 + 700 - 600
    assert free_bytes(torch.device("cpu")) is None


def test_bytes_of_parts_are_those_of_their_weights(tmp_path):
    decoder = load_decoder(make_decoder(tmp_path / "d", P), DecoderParams(precision="bf16"), device="cpu")
    sizes = part_bytes(decoder.pipeline)
    assert set(sizes) == {"unet", "movq"}
    assert sizes["unet"] == 2 * decoder.pipeline.unet.num_parameters()


def draw(decoder):
    negative = decoder.negative(lambda: torch.zeros(1, P))
    embeds = torch.randn(2, P, generator=torch.Generator().manual_seed(1))
    return decoder.decode(
        embeds, seeds=[1, 2], steps=3, guidance=2.0, negative_embeds=negative, prompts=["a cat", "a dog"]
    )


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_draws_nearly_the_same_pictures(tmp_path, name, precision):
    folder = MAKERS[name](tmp_path / "d", P)
    whole = draw(load_decoder(folder, DecoderParams(precision="fp32"), device="cpu"))
    decoder = load_decoder(folder, DecoderParams(precision=precision), device="cpu")
    half = draw(decoder)
    assert decoder.dtype == weights_type(precision, torch.device("cpu"))
    # Random networks blow rounding up; trained ones do not. In the mean over all pixels little is left of it.
    assert np.abs(half.astype(float) - whole).mean() < {"fp16": 4, "bf16": 16}[precision]


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
def test_compiled_networks_draw_the_same_pictures(tmp_path, name):
    folder = MAKERS[name](tmp_path / "d", P)
    plain, compiled = load_decoder(folder, device="cpu"), load_decoder(folder, device="cpu")
    compiled.compile(backend="eager")
    assert all(network._compiled_call_impl is not None for network in compiled.networks.values())
    assert np.abs(draw(plain).astype(int) - draw(compiled)).max() <= 1


def test_compile_is_asked_for_by_the_parameter(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **settings: asked.append((type(self), settings)))
    load_decoder(make_decoder(tmp_path / "d", P), DecoderParams(compile=True), device="cpu")
    assert [(kind.__name__, settings) for kind, settings in asked] == [
        ("UNet2DConditionModel", {"backend": "inductor"})
    ]


def test_tiles_are_chosen_where_the_whole_does_not_fit(tmp_path, monkeypatch):
    movq = load_decoder(make_decoder(tmp_path / "d", P), device="cpu").movq
    latents = torch.zeros(1, 4, 64, 64)
    needed, gpu = decode_bytes(movq, latents), torch.device("cuda")
    assert decode_bytes(movq, latents.repeat(1, 1, 2, 2)) == 4 * needed == 4 * decode_bytes(movq, latents.half()) * 2
    for free, tiles in ((needed, False), (needed - 1, True)):
        monkeypatch.setattr("eclipse.models.decoder.memory.free_bytes", lambda device, free=free: free)
        assert wants_tiles(None, movq, latents, gpu) is tiles
        assert wants_tiles(True, movq, latents, gpu) and not wants_tiles(False, movq, latents, gpu)
    monkeypatch.undo()
    assert not wants_tiles(None, movq, latents, torch.device("cpu"))


def test_karlo_has_nothing_to_tile(tmp_path):
    with pytest.raises(ConfigError, match=r"decoder\.tiled"):
        load_decoder(make_karlo(tmp_path / "d", P), DecoderParams(tiled=True), device="cpu")
