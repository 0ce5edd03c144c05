"""Every kind of decoder through the same engine: what holds for the mini decoder holds for those that read text."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch
from made_decoders import make_kandinsky21, make_karlo
from made_jobs import events, job, pictures

from eclipse.config.serve import ServeParams
from eclipse.errors import ConfigError, DataError
from eclipse.models.decoder import load_decoder
from eclipse.serve.engine import Engine, draw
from eclipse.serve.types import Blend, Drawn, Partial, Prompt

MAKERS = {"karlo": make_karlo, "kandinsky21": make_kandinsky21}
SAMPLER = {"karlo": "unclip", "kandinsky21": "ddim"}


@pytest.fixture(scope="module", params=MAKERS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def other(name, tmp_path_factory):
    return load_decoder(MAKERS[name](tmp_path_factory.mktemp(name) / "d", 96), device="cpu")


@pytest.fixture
def asked(name):
    """A job for this decoder, as ``job`` makes them."""
    return lambda *seeds, **changes: job(*seeds, **{"scheduler": SAMPLER[name]} | changes)


@pytest.fixture(scope="module")
def engine(clip, other, priors):
    running = Engine(clip, other, priors, ServeParams(slots=2, prior_batch=2))
    running.start()
    yield running
    running.close(0)


def far(a, b):
    return np.abs(a.astype(int) - b.astype(int)).max()


def test_pictures_are_those_of_decode(engine, other, clip, asked, name):
    made = asyncio.run(pictures(engine, asked(3, 4, text="a red star")))
    theirs = other.decode(
        torch.stack([one.image_embeds for one in made]), seeds=[3, 4], steps=3, scheduler=SAMPLER[name], guidance=3.0,
        negative_embeds=other.negative(clip.encode_nothing), prompts=["a red star"] * 2,
    )  # fmt: skip
    assert all(one.finite for one in made)
    assert max(far(one.image, reference) for one, reference in zip(made, theirs, strict=True)) <= 1


def test_alone_and_among_others_it_is_the_same_picture(engine, asked):
    async def together():
        tasks = [
            asyncio.ensure_future(pictures(engine, asked(seed, text=text, steps=steps, guidance=guidance)))
            for seed, text, steps, guidance in ((11, "a cat", 3, 3.0), (12, "two dogs", 5, 1.0), (13, "a", 2, 6.0))
        ]
        return [await task for task in tasks]

    alone = asyncio.run(pictures(engine, asked(11, text="a cat")))[0]
    assert np.array_equal(alone.image, asyncio.run(together())[0][0].image)


def test_the_prompt_reaches_the_decoder_and_a_negative_one_too(engine, other, asked, monkeypatch):
    read, real = [], other._read
    monkeypatch.setattr(other, "_read", lambda text: read.append(text) or real(text))
    asyncio.run(pictures(engine, asked(1, text="a red star", negative_prompt="a blue heart")))
    between = Blend(Prompt("a red star"), Prompt("a blue heart"), 0.5)
    asyncio.run(pictures(engine, asked(1, source=between)))
    assert read == ["a blue heart", "a red star", "", ""]  # between two prompts there are no words


def test_unfinished_pictures_have_the_size_of_finished_ones(engine, asked):
    found = asyncio.run(events(engine, asked(1, partial_images=3, steps=4)))
    shown = [event for event in found if isinstance(event, Partial)]
    last = [event for event in found if isinstance(event, Drawn)]
    assert len(last) == 1 and {one.image.shape for one in (*shown, *last)} == {(64, 64, 3)} and shown


def test_drawn_again_it_has_the_same_bits(engine, clip, other, priors, asked):
    wanted = asked(5, text="a green circle", negative_prompt="a dog")
    made = asyncio.run(pictures(engine, wanted))[0]
    again = draw(clip, other, priors["text"], ServeParams(slots=2, prior_batch=2), wanted.wanted[0], wanted.drawing)
    assert np.array_equal(made.image, again.image)


def test_what_it_cannot_draw_is_refused_before_it_is_taken_on(engine, other, asked, name):
    async def submit(**changes):
        engine.submit(asked(1, **changes))

    with pytest.raises(ConfigError, match=f"choose {', '.join(other.schedulers)}".replace("+", r"\+")):
        asyncio.run(submit(scheduler="euler"))
    with pytest.raises(DataError, match="size: 70x64"):
        asyncio.run(submit(width=70))
    assert engine.stats().pending == 0


def test_cost_is_the_decoders(engine, other, asked, name):
    one = asked(1, steps=10)
    assert engine.cost(one) == other.cost(one.drawing) == (10 + 7 * 14 if name == "karlo" else 10)
    assert engine.stats().exact
