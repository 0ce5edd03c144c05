"""Offload with the CPU in the GPU's place: accelerate's hooks are the real ones, and nothing goes round them."""

import numpy as np
import pytest
import torch
from made_decoder import make_decoder
from made_decoders import make_kandinsky21, make_karlo
from made_offload import Moves, offload_layers

from eclipse.models.decoder import Drawing, load_decoder

P = 12
MAKERS = {"kandinsky22": make_decoder, "kandinsky21": make_kandinsky21, "karlo": make_karlo}


def draw(decoder):
    negative = decoder.negative(lambda: torch.zeros(1, P))
    embeds = torch.randn(2, P, generator=torch.Generator().manual_seed(1))
    return decoder.decode(
        embeds, seeds=[1, 2], steps=3, guidance=2.0, negative_embeds=negative, prompts=["a cat", "a dog"]
    )


@torch.no_grad()
def side_by_side(decoder):
    """Two pictures that keep to no order: the second begins, and is shown, while the first is on its way."""
    drawing = Drawing(3, decoder.schedulers[0], 1.0, decoder.image_size, decoder.image_size)
    embeds = torch.randn(2, P, generator=torch.Generator().manual_seed(1))
    first = decoder.begin(drawing, 1, embeds[0], text="a cat")

    def step(sketch):
        call = sketch.call()
        sketch.advance(decoder.call(call.network, *call.inputs))

    step(first)
    first.preview()
    step(first)
    second = decoder.begin(drawing, 2, embeds[1], text="a dog")
    found = []
    while not (first.finished and second.finished):
        for sketch in (first, second):
            if not sketch.finished:
                step(sketch)
                sketch.preview()
                if sketch.finished:
                    found.append(sketch.pixels()[0])
                    decoder.release()
    return np.stack(found)


@pytest.fixture(params=MAKERS)
def decoders(request, tmp_path):
    """The same decoder twice: one to leave alone, one to offload."""
    folder = MAKERS[request.param](tmp_path / "d", P)
    return load_decoder(folder, device="cpu"), load_decoder(folder, device="cpu")


@pytest.mark.parametrize("drawn", [draw, side_by_side])
def test_parts_that_are_moved_draw_the_same_pictures_one_there_at_a_time(decoders, monkeypatch, drawn):
    plain, moved = decoders
    moves = Moves(moved, monkeypatch)
    for _ in range(2):  # and again after release()
        assert np.array_equal(drawn(plain), drawn(moved))
    assert moves.called == moves.parts
    assert all(len(there) == 1 for there in moves.seen)


@pytest.mark.parametrize("drawn", [draw, side_by_side])
def test_layers_that_are_moved_draw_the_same_pictures(decoders, drawn):
    plain, moved = decoders
    offload_layers(moved)
    assert all(value.is_meta for network in moved.networks.values() for value in network.parameters())
    assert np.array_equal(drawn(plain), drawn(moved))
