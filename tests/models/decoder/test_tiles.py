from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_server import MINI

from eclipse.config.decoder import DecoderParams
from eclipse.models.decoder import load_decoder
from eclipse.models.decoder.tiles import decode_tiled, ramp, shared_statistics, starts
from eclipse.world.render import render
from eclipse.world.scene import Mix, random_scene


@pytest.fixture(scope="module")
def movq():
    return load_decoder(MINI / "decoder", device="cpu").movq


def latents_of(movq, count):
    """Latents of ``count`` × ``count`` scenes of 16 × 16 latents side by side."""
    rng = np.random.default_rng(0)
    rows = [[render(random_scene(rng, Mix(0.5, 0.5, 0)), rng).image for _ in range(count)] for _ in range(count)]
    picture = torch.from_numpy(np.concatenate([np.concatenate(row, 1) for row in rows]))
    with torch.no_grad():
        return movq.encode(picture.permute(2, 0, 1)[None].float() / 127.5 - 1).latents


@given(st.integers(1, 300), st.integers(2, 80), st.data())
def test_tiles_cover_everything_and_share_what_they_should(size, tile, data):
    overlap = data.draw(st.integers(1, tile // 2))
    found = starts(size, tile, overlap)
    assert found[0] == 0 and found == sorted(set(found))
    ends = [start + min(tile, size) for start in found]
    assert ends[-1] == size
    assert all(end - start >= overlap for end, start in zip(ends, found[1:], strict=False))


def test_weights_of_neighbours_that_share_just_the_overlap_add_up_to_one():
    left, right = ramp(10, 4, first=True, last=False), ramp(10, 4, first=False, last=True)
    assert torch.allclose(left[-4:] + right[:4], torch.ones(4))
    assert left[:6].eq(1).all() and right[4:].eq(1).all() and bool((left > 0).all())


@torch.no_grad()
def test_what_one_tile_covers_is_decoded_to_the_bit(movq):
    latents = latents_of(movq, 1)
    assert torch.equal(decode_tiled(movq, latents, 16, 4), movq.decode(latents, force_not_quantize=True)["sample"])


@torch.no_grad()
def test_tiles_are_near_the_whole_as_they_share_its_statistics(movq, monkeypatch):
    latents = latents_of(movq, 3)
    whole = movq.decode(latents, force_not_quantize=True)["sample"]
    shared = (decode_tiled(movq, latents, 32, 8) - whole).abs() * 127.5
    monkeypatch.setattr("eclipse.models.decoder.tiles.shared_statistics", lambda *_: nullcontext())
    alone = (decode_tiled(movq, latents, 32, 8) - whole).abs() * 127.5
    assert shared.mean() < 1 and shared.max() < 16  # grey levels
    assert alone.mean() > 4 * shared.mean()
    assert torch.equal(whole, movq.decode(latents, force_not_quantize=True)["sample"])  # nothing of it stays


@torch.no_grad()
def test_the_statistics_of_parts_are_those_of_the_whole(movq):
    """With all its statistics given, a part's inside is the whole's: convolutions see only so far."""
    latents = latents_of(movq, 3)
    whole = movq.decode(latents, force_not_quantize=True)["sample"]
    with shared_statistics(movq, latents, 48):
        part = movq.decode(latents[:, :, :40, :40], force_not_quantize=True)["sample"]
    assert (part[:, :, :64, :64] - whole[:, :, :64, :64]).abs().max() < 1e-3


@torch.no_grad()
def test_no_more_than_a_tile_is_ever_decoded_at_once(movq, monkeypatch):
    seen, real = [], type(movq).decode
    monkeypatch.setattr(
        type(movq), "decode", lambda self, h, **named: seen.append(tuple(h.shape[2:])) or real(self, h, **named)
    )
    pixels = decode_tiled(movq, latents_of(movq, 3)[:, :, :40, :24], 16, 4)
    assert pixels.shape == (1, 3, 160, 96) and max(max(side) for side in seen) == 16


@torch.no_grad()
def test_tiled_pictures_are_decoded_one_at_a_time_to_the_same_bits(monkeypatch):
    tiled = load_decoder(MINI / "decoder", DecoderParams(tiled=True), device="cpu")
    latents = torch.cat([latents_of(tiled.movq, 1), latents_of(tiled.movq, 2)[:, :, 16:, 16:]])
    alone = [tiled.to_pixels(one) for one in latents.split(1)]
    seen, real = [], type(tiled.movq).decode
    monkeypatch.setattr(
        type(tiled.movq), "decode", lambda self, h, **named: seen.append(len(h)) or real(self, h, **named)
    )
    assert torch.equal(tiled.to_pixels(latents), torch.cat(alone))
    assert seen == [1, 1]


def test_the_parameter_reaches_the_pictures():
    whole = load_decoder(MINI / "decoder", DecoderParams(tiled=False), device="cpu")
    tiled = load_decoder(MINI / "decoder", DecoderParams(tiled=True), device="cpu")
    embeds = torch.randn(1, 96, generator=torch.Generator().manual_seed(0))
    pictures = [one.decode(embeds, seeds=[0], steps=2) for one in (whole, tiled)]
    assert np.array_equal(*pictures)  # 16 × 16 latents are less than a tile
