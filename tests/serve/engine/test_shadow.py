"""Shadow scoring compares, hides the prompt, waits for idle moments, and is the same choice on every server."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time

import pytest
import torch
from made_jobs import job, pictures

from eclipse.models.api import predict
from eclipse.personalize.generate import encode
from eclipse.serve.types import Blend, Prompt


@pytest.fixture(scope="module")
def both(priors, made_prior):
    return {**priors, "text@candidate": made_prior("text@candidate", "eclipse", 9)}


def scored(running, both, asked, *, share=1.0, count=1):
    lines = []

    async def run():
        for one in asked:
            await pictures(engine, one)
        end = time.monotonic() + 30
        while len(lines) < count and time.monotonic() < end:
            await asyncio.sleep(0.01)

    with running(both, record=lines.append, shadow_share=share) as engine:
        asyncio.run(run())
    return lines


def test_a_line_tells_who_was_compared_on_what_and_how_they_did(running, both, clip):
    (line,) = scored(running, both, [job(5, text="a red star")])
    text = encode(clip, "a red star", ())
    old, new = (predict(both[name].prior, text, seeds=[5])[0] for name in ("text", "text@candidate"))
    cosine = torch.nn.functional.cosine_similarity
    assert line["model"] == "text" and line["seed"] == 5
    assert line["champion"] == both["text"].name.prior_hash
    assert line["candidate"] == both["text@candidate"].name.prior_hash
    assert line["cosine"] == pytest.approx(float(cosine(old, new, dim=0)), abs=1e-6)
    assert line["champion_to_text"] == pytest.approx(float(cosine(old, text.prompt_embeds[0], dim=0)), abs=1e-6)
    assert line["candidate_to_text"] == pytest.approx(float(cosine(new, text.prompt_embeds[0], dim=0)), abs=1e-6)
    assert line["prompt_sha256"] == hashlib.sha256(b"a red star").hexdigest()
    assert line["seconds"] > 0
    assert "star" not in json.dumps(line)


def test_the_share_is_chosen_by_the_prompts_hash(running, both):
    prompts = [f"a star and {number} hearts" for number in range(12)]
    first = {
        text for text in prompts if int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") < 0.4 * 2**64
    }
    assert 0 < len(first) < 12
    lines = scored(running, both, [job(1, text=text, steps=1) for text in prompts], share=0.4, count=len(first))
    assert {line["prompt_sha256"] for line in lines} == {hashlib.sha256(text.encode()).hexdigest() for text in first}


def test_candidates_models_without_one_and_blends_are_not_scored(running, both):
    asked = [
        job(1, model="text@candidate", steps=1),
        job(1, model="subjects", steps=1),
        job(1, source=Blend(Prompt("a star"), Prompt("a heart"), 0.5), steps=1),
    ]
    assert scored(running, both, [*asked, job(7, steps=1)])[0]["seed"] == 7


def test_it_waits_until_nothing_else_is_to_be_done(running, both):
    lines, steps = [], []

    def observe(phase, seconds):
        if phase == "step":
            steps.append(len(lines))

    async def run():
        await asyncio.gather(*(pictures(engine, job(1, 2, text=f"{name} stars", steps=4)) for name in range(3)))
        end = time.monotonic() + 30
        while len(lines) < 6 and time.monotonic() < end:
            await asyncio.sleep(0.01)

    with running(both, record=lines.append, observe=observe, shadow_share=1.0) as engine:
        asyncio.run(run())
    assert len(lines) == 6 and set(steps) == {0}


def test_a_candidate_that_fails_disturbs_nobody(running, both, made_prior):
    spoilt = made_prior("text@candidate", "eclipse", 4)
    spoilt.prior.norm_out.weight.data.fill_(float("nan"))

    async def run():
        await pictures(engine, job(1))
        await asyncio.sleep(0.2)
        return await pictures(engine, job(2))

    lines = []
    with running({**both, "text@candidate": spoilt}, record=lines.append, shadow_share=1.0) as engine:
        assert len(asyncio.run(run())) == 1
        assert engine.stats().failures == 0
    assert lines == []
