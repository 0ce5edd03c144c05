"""A picture's bits depend on its own inputs only: neighbours, slot, time of joining and company change nothing."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_jobs import job, pictures

from eclipse.config.serve import ServeParams
from eclipse.data.control import canny
from eclipse.models.decoder import Decoder, Sketch
from eclipse.personalize.generate import PlacedSubject
from eclipse.serve.engine import draw
from eclipse.serve.engine.stepper import Stepper
from eclipse.serve.types import Blend, Drawing, Prompt

ROWS = 4
NEIGHBOUR = st.tuples(
    st.integers(0, 2**31), st.sampled_from(("dpm++", "ddim", "ddpm")), st.sampled_from((1.0, 2.0, 9.0)),
    st.integers(1, 30), st.sampled_from((0.0, 1.0, 50.0)),
)  # fmt: skip


@pytest.fixture
def threads(request):
    """torch computes with as many as the test's parameter says."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def one(decoder: Decoder, seed: int, scheduler: str, guidance: float, steps: int, scale: float = 1.0) -> Sketch:
    vectors = torch.randn(2, 96, generator=torch.Generator().manual_seed(seed)) * scale
    return decoder.begin(Drawing(steps, scheduler, guidance, 64, 64), seed, vectors[0], vectors[1])


@torch.no_grad()
def steps_of(stepper: Stepper, decoder: Decoder, mine: tuple, others: list[tuple], place: int) -> torch.Tensor:
    """My latents after 3 steps, the others around me, as many as there is room for, leaving when they are done."""
    picture = one(decoder, *mine)
    company = []
    for neighbour in (one(decoder, *other) for other in others):
        if picture.rows + neighbour.rows + sum(item.rows for item in company) <= ROWS:
            company.append(neighbour)
    for _ in range(3):
        company = [item for item in company if not item.finished]
        around = [*company[:place], picture, *company[place:]]
        assert stepper.step(around) == {}
    return picture.latents


class TestRows:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("threads", "scheduler", "guidance"),
        [(1, "dpm++", 4.0), (1, "ddim", 1.0), (1, "ddpm", 4.0), (2, "dpm++", 4.0)],
        indirect=["threads"],
    )
    def test_neighbours_and_place_change_no_bit(self, decoder, threads, scheduler, guidance):
        stepper = Stepper(decoder, ROWS, exact=True)
        mine = (7, scheduler, guidance, 5)
        alone = steps_of(stepper, decoder, mine, [], 0)

        @settings(max_examples=4, database=None, derandomize=True)
        @given(st.lists(NEIGHBOUR, min_size=1, max_size=3), st.integers(0, 3))
        def check(others, place):
            assert torch.equal(steps_of(stepper, decoder, mine, others, place), alone)

        check()

    @pytest.mark.parametrize("threads", [1, 2], indirect=True)
    @pytest.mark.parametrize("rows", [2, 8, 16])
    def test_every_row_of_the_batch_computes_alike(self, decoder, threads, rows):
        with torch.no_grad():
            assert Stepper(decoder, rows, exact=True).rows_agree(one(decoder, 1, "dpm++", 1.0, 5))

    def test_a_neighbour_that_is_not_finite_stays_alone_with_it(self, decoder):
        stepper = Stepper(decoder, ROWS, exact=True)
        mine = (7, "dpm++", 4.0, 5)
        alone = steps_of(stepper, decoder, mine, [], 0)
        spoilt = (3, "ddpm", 2.0, 5, float("nan"))
        assert torch.equal(steps_of(stepper, decoder, mine, [spoilt, spoilt], 1), alone)

    def test_without_exact_only_the_rows_in_use_are_computed_and_the_result_is_equal_to_rounding(self, decoder):
        rows = []
        decoder.pipeline.unet.conv_in.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
        exact = steps_of(Stepper(decoder, ROWS, exact=True), decoder, (7, "dpm++", 4.0, 5), [], 0)
        quick = steps_of(Stepper(decoder, ROWS, exact=False), decoder, (7, "dpm++", 4.0, 5), [], 0)
        decoder.pipeline.unet.conv_in._forward_hooks.clear()
        assert rows == [ROWS] * 3 + [2] * 3
        assert (exact - quick).abs().max() < 1e-4


def subject(colour: int) -> PlacedSubject:
    image = np.full((64, 64, 3), 255, np.uint8)
    image[16:48, 16:48] = colour
    return PlacedSubject((2, 6), image)


EDGES = canny(subject(90).picture)
ASKED = {
    "text": job(11, 12, text="a green circle"),
    "no guidance": job(11, guidance=1.0, steps=5),
    "ancestral": job(11, scheduler="ddpm"),
    "negative prompt": job(11, negative_prompt="a blue heart"),
    "between": job(11, source=Blend(Prompt("a red star"), Prompt("a blue heart and a circle"), 0.3)),
    "subject": job(11, source=Prompt("a star on a table", (subject(40),)), model="subjects"),
    "edges": job(11, source=Prompt("a star", control=EDGES), model="subjects"),
}


class TestEngine:
    @pytest.mark.slow
    def test_alone_and_among_others_they_are_the_same_pictures(self, running):
        async def alone():
            return {name: await pictures(engine, asked) for name, asked in ASKED.items()}

        async def together():
            tasks = {}
            for name, asked in reversed(ASKED.items()):
                tasks[name] = asyncio.ensure_future(pictures(engine, asked))
                await asyncio.sleep(0.05)  # so that they join at different steps of each other
            return {name: await task for name, task in tasks.items()}

        with running(slots=3) as engine:
            first, second = asyncio.run(alone()), asyncio.run(together())
        for name, asked in ASKED.items():
            assert len(first[name]) == len(asked.wanted)
            for a, b in zip(first[name], second[name], strict=True):
                assert np.array_equal(a.image, b.image), name
                assert torch.equal(a.image_embeds, b.image_embeds), name

    def test_draw_makes_the_engines_picture_again(self, running, clip, decoder, priors):
        asked = ASKED["negative prompt"]
        with running(slots=3) as engine:
            made = asyncio.run(pictures(engine, asked))[0]
        params = ServeParams(slots=3, prior_batch=2)
        again = draw(clip, decoder, priors["text"], params, asked.wanted[0], asked.drawing)
        assert np.array_equal(made.image, again.image)
        assert torch.equal(made.image_embeds, again.image_embeds)
