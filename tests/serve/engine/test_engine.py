"""The running engine: partial pictures, cancelling, time limits, fairness, failures, draining, exchanged priors."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
import torch
from made_jobs import drawing, drawn, events, job, pictures

from eclipse.errors import ConfigError, DataError
from eclipse.personalize.generate import PlacedSubject
from eclipse.serve.engine import LoadedPrior
from eclipse.serve.engine.worker import marks
from eclipse.serve.types import (
    Drawn,
    Embedded,
    GivenUpError,
    Job,
    JobTooLargeError,
    Partial,
    Prompt,
    RefusedError,
    UnknownModelError,
    Wanted,
)

LONG = 60  # steps of a job that is still going on when something else happens


async def until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        await asyncio.sleep(0.005)


async def begun(engine, asked: Job):
    """A ticket whose first picture is in the slots."""
    ticket = engine.submit(asked)
    before = engine.stats().slots_in_use
    await until(lambda: engine.stats().slots_in_use > before)
    return ticket


class TestEvents:
    def test_embedding_then_partials_then_the_picture(self, running):
        with running() as engine:
            found = asyncio.run(events(engine, job(1, 2, steps=8, partial_images=3)))
        for index in (0, 1):
            mine = [event for event in found if event.index == index]
            assert [type(event) for event in mine] == [Embedded, Partial, Partial, Partial, Drawn]
            assert [event.number for event in mine[1:4]] == [0, 1, 2]
            assert torch.equal(mine[0].image_embeds, mine[4].image_embeds)
        final = drawn(found)[0].image.astype(int)
        away = [np.abs(event.image - final).mean() for event in found if isinstance(event, Partial) and not event.index]
        assert away[0] > away[1] > away[2] > 0

    @pytest.mark.parametrize(
        ("steps", "count", "after"),
        [(15, 0, []), (15, 2, [5, 10]), (16, 3, [4, 8, 12]), (2, 3, [1]), (1, 3, []), (100, 1, [50])],
    )
    def test_partials_are_evenly_spaced(self, steps, count, after):
        assert marks(steps, count) == {step: number for number, step in enumerate(after)}

    def test_embeddings_only(self, running):
        wanted = tuple(Wanted(Prompt("a star"), seed) for seed in range(5))
        with running() as engine:
            found = asyncio.run(events(engine, Job("text", wanted, None)))
            assert engine.stats().pending == 0
        assert [type(event) for event in found] == [Embedded] * 5
        assert sorted(event.index for event in found) == list(range(5))

    def test_phases_are_observed(self, running):
        seen = []
        with running(observe=lambda phase, seconds: seen.append((phase, seconds))) as engine:
            asyncio.run(pictures(engine, job(1, 2, steps=3)))
        counts = {phase: sum(name == phase for name, _ in seen) for phase, _ in seen}
        assert counts == {"text": 1, "prior": 2, "queue": 2, "decoder": 2, "step": 3}
        assert all(seconds >= 0 for _, seconds in seen)

    def test_an_observer_that_fails_stops_nothing(self, running):
        with running(observe=lambda phase, seconds: 1 / 0) as engine:
            assert len(asyncio.run(pictures(engine, job(1)))) == 1


class TestRefusals:
    def test_what_cannot_be_is_refused_at_once(self, running):
        async def submit(asked):
            engine.submit(asked)

        with running(max_pending=100) as engine:
            for error, asked in (
                (UnknownModelError, job(1, model="other")),
                (JobTooLargeError, job(1, 2, steps=51)),
                (ConfigError, job(1, scheduler="euler")),
                (DataError, job(1, height=60)),
                (DataError, job(1, width=0)),
                (DataError, job(1, steps=0)),
                (DataError, job(1, steps=1001)),
            ):
                with pytest.raises(error):
                    asyncio.run(submit(asked))
            assert engine.cost(job(1, 2, steps=51)) == 102
            assert engine.stats().pending == 0

    def test_a_full_server_refuses_and_takes_on_again_when_there_is_room(self, running):
        async def run():
            first = await begun(engine, job(1, 2, steps=LONG))
            with pytest.raises(RefusedError) as refused:
                engine.submit(job(3, steps=50))
            assert refused.value.retry_after >= 1
            first.cancel()
            await until(lambda: engine.stats().pending == 0)
            return await pictures(engine, job(3, steps=2))

        with running(max_pending=2 * LONG) as engine:
            assert len(asyncio.run(run())) == 1

    def test_no_pictures_are_no_events(self, running):
        with running() as engine:
            assert asyncio.run(events(engine, Job("text", (), drawing()))) == []

    def test_subjects_for_a_text_prior_fail_their_job(self, running):
        subject = PlacedSubject((2, 6), np.full((64, 64, 3), 9, np.uint8))
        with running() as engine, pytest.raises(DataError, match="takes no subjects"):
            asyncio.run(pictures(engine, job(1, source=Prompt("a star", (subject,)))))


class TestLeaving:
    def test_a_cancelled_job_frees_its_slots_between_two_steps(self, running):
        async def run():
            ticket = await begun(engine, job(1, 2, 3, steps=LONG))
            ticket.cancel()
            await until(lambda: engine.stats().slots_in_use == 0)
            assert engine.stats().queued == 0
            assert [event async for event in ticket] == []
            return len(steps)

        steps = []
        with running(observe=lambda phase, seconds: steps.append(phase) if phase == "step" else None) as engine:
            assert asyncio.run(run()) < LONG / 2

    def test_a_job_that_takes_too_long_is_given_up_and_others_are_not(self, running):
        async def run():
            late = asyncio.ensure_future(events(engine, job(1, steps=500, seconds=0.3)))
            other = asyncio.ensure_future(pictures(engine, job(2)))
            with pytest.raises(GivenUpError, match=r"longer than 0\.3 s") as given_up:
                await late
            assert not given_up.value.stopping
            return await other

        with running(max_pending=1000) as engine:
            assert len(asyncio.run(run())) == 1
            assert engine.stats().pending == 0

    def test_one_picture_is_not_kept_waiting_by_ten(self, running):
        async def run():
            many = asyncio.ensure_future(pictures(engine, job(*range(10), steps=4)))
            await until(lambda: engine.stats().slots_in_use > 0)
            await pictures(engine, job(99, steps=4))
            assert engine.stats().queued >= 4
            assert len(await many) == 10

        with running() as engine:
            asyncio.run(run())

    def test_other_sizes_wait_for_the_slots_and_are_drawn(self, running):
        async def run():
            sizes = [(64, 64), (96, 64), (64, 64), (32, 128)]
            asked = [job(1, 2, height=height, width=width) for height, width in sizes]
            found = await asyncio.gather(*(pictures(engine, one) for one in asked))
            assert [one[1].image.shape[:2] for one in found] == sizes

        with running() as engine:
            asyncio.run(run())


def breaks(engine, monkeypatch, place: str, method: str, when):
    """Make ``method`` of the worker's ``place`` raise where ``when`` says so of its arguments."""
    target = getattr(engine._worker, place)
    real = getattr(target, method)

    def broken(*arguments, **named):
        if when(*arguments):
            raise RuntimeError("broken model code")
        return real(*arguments, **named)

    monkeypatch.setattr(target, method, broken)


class TestFailures:
    @pytest.mark.parametrize(
        ("place", "method"),
        [("embedder", "encoded"), ("decoder", "scheduler"), ("decoder", "call"), ("decoder", "to_pixels")],
    )
    def test_model_code_that_fails_once_ends_one_job_and_not_the_engine(self, running, monkeypatch, place, method):
        async def run():
            with pytest.raises(RuntimeError, match="broken model code"):
                await pictures(engine, job(1))
            assert engine.stats().failures == 1
            return await pictures(engine, job(2))

        calls = []
        with running() as engine:
            breaks(engine, monkeypatch, place, method, lambda *_: calls.append(1) or len(calls) == 1)
            assert len(asyncio.run(run())) == 1
            assert engine.stats().slots_in_use == 0 and engine.stats().pending == 0

    def test_a_step_that_one_picture_breaks_is_done_for_the_others_with_the_same_bits(self, running, monkeypatch):
        def poisoned(network, latents, timesteps, embeds):
            return bool((embeds == 5).all(1).any())

        async def run():
            before = await pictures(engine, job(2, text="a circle", steps=20))
            breaks(engine, monkeypatch, "decoder", "call", poisoned)
            good = await begun(engine, job(2, text="a circle", steps=20))
            with pytest.raises(RuntimeError, match="broken"):
                await pictures(engine, job(1, text="poison"))
            assert engine.stats().slots_in_use == 1
            after = drawn([event async for event in good])
            assert np.array_equal(before[0].image, after[0].image)

        with running() as engine:
            real = engine._worker.embedder._predict
            monkeypatch.setattr(
                engine._worker.embedder,
                "_predict",
                lambda questions, group: [
                    (number, poison(answer) if questions[number].prompt.text == "poison" else answer)
                    for number, answer in real(questions, group)
                ],
            )
            asyncio.run(run())

    def test_a_fault_of_the_engine_itself_ends_open_jobs_and_it_goes_on(self, running, monkeypatch):
        async def run():
            with pytest.raises(RuntimeError, match="broken"):
                await pictures(engine, job(1))
            return await pictures(engine, job(2))

        calls = []
        with running() as engine:
            breaks(engine, monkeypatch, "_turns", "next", lambda *_: calls.append(1) or len(calls) == 1)
            assert len(asyncio.run(run())) == 1
            assert engine.stats().failures == 1

    def test_a_picture_that_is_not_finite_says_so(self, running, monkeypatch):
        with running() as engine:
            real = engine._worker.embedder._predict
            monkeypatch.setattr(
                engine._worker.embedder,
                "_predict",
                lambda questions, group: [
                    (number, poison(answer, float("nan"))) for number, answer in real(questions, group)
                ],
            )
            found = asyncio.run(pictures(engine, job(1)))[0]
        assert not found.finite and not found.image.any()

    def test_a_prior_that_is_not_finite_fails_its_job_only(self, running, made_prior, priors):
        spoilt = made_prior("spoilt", "eclipse", 3)
        spoilt.prior.norm_out.weight.data.fill_(float("nan"))

        async def run():
            with pytest.raises(DataError, match="not finite"):
                await pictures(engine, job(1, model="spoilt"))
            return await pictures(engine, job(1))

        with running({**priors, "spoilt": spoilt}) as engine:
            assert asyncio.run(run())[0].finite

    def test_models_that_cannot_compute_are_told_at_the_start(self, running, decoder, monkeypatch):
        monkeypatch.setattr(decoder.pipeline.unet, "forward", None)
        with pytest.raises(TypeError), running():
            pass


def poison(answer, value: float = 5.0):
    return type(answer)(torch.full_like(answer.embeds, value), answer.text_seconds, answer.prior_seconds)


class TestStopping:
    def test_what_is_open_is_finished_and_nothing_else_taken_on(self, running):
        async def run():
            going = asyncio.ensure_future(pictures(engine, job(1, 2, 3, steps=4)))
            await until(lambda: engine.stats().slots_in_use > 0)
            closing = asyncio.ensure_future(asyncio.to_thread(engine.close, 60))
            await asyncio.sleep(0.05)
            with pytest.raises(GivenUpError) as refused:
                engine.submit(job(4))
            assert refused.value.stopping
            assert len(await going) == 3
            await asyncio.wait_for(closing, 10)

        with running() as engine:
            asyncio.run(run())

    def test_after_its_time_the_rest_is_given_up(self, running):
        async def run():
            going = asyncio.ensure_future(pictures(engine, job(1, steps=300)))
            await until(lambda: engine.stats().slots_in_use > 0)
            await asyncio.wait_for(asyncio.to_thread(engine.close, 0.1), 30)
            with pytest.raises(GivenUpError, match="stopping") as given_up:
                await going
            assert given_up.value.stopping

        with running() as engine:
            asyncio.run(run())


class TestSwap:
    def test_begun_jobs_keep_their_prior_and_new_ones_have_the_new_one(self, running, made_prior):
        old, new = made_prior("text", "eclipse", 0), made_prior("text", "eclipse", 1)
        old, new = (LoadedPrior(item.name, item.prior) for item in (old, new))

        async def run():
            before = asyncio.ensure_future(pictures(engine, job(*range(6), steps=3)))
            await until(lambda: engine.stats().slots_in_use > 0)
            engine.swap({"text": new})
            after = await pictures(engine, job(0))
            return await before, after

        with running({"text": old}) as engine:
            before, after = asyncio.run(run())
        assert len(before) == 6
        assert {item.prior.prior_hash for item in before} == {old.name.prior_hash}
        assert after[0].prior.prior_hash == new.name.prior_hash
        assert not torch.equal(before[0].image_embeds, after[0].image_embeds)

    def test_a_job_that_waits_for_a_model_that_goes_away_is_still_drawn(self, running, priors):
        async def run():
            ticket = engine.submit(job(1, model="subjects"))
            engine.swap({"text": priors["text"]})
            with pytest.raises(UnknownModelError):
                engine.submit(job(1, model="subjects"))
            return [event async for event in ticket]

        with running() as engine:
            assert drawn(asyncio.run(run()))
