"""OpenAI's own client, unchanged, against a listening server."""

from __future__ import annotations

import io

import httpx
import numpy as np
import openai
import pytest
from made_picture import edges_png, pixels, subject_png

PROMPT = "a red star left of a blue heart"


@pytest.fixture(scope="module")
def api(address):
    return openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


def test_generate(api):
    answer = api.images.generate(prompt=PROMPT, n=2, extra_body={"seed": 7, "steps": 3, "scheduler": "ddim"})
    assert answer.created > 0 and answer.output_format == "png" and answer.usage.output_tokens == 2
    assert [pixels(item.b64_json).shape for item in answer.data] == [(64, 64, 3)] * 2
    assert [item.seed for item in answer.data] == [7, 8]
    again = api.images.generate(prompt=PROMPT, extra_body={"seed": 8, "steps": 3, "scheduler": "ddim"})
    assert np.array_equal(pixels(again.data[0].b64_json), pixels(answer.data[1].b64_json))


def test_generate_with_all_of_its_own_arguments(api):
    answer = api.images.generate(
        prompt=PROMPT, model="eclipse-prior-eclipse-mini", n=1, size="auto", quality="auto", background="auto",
        moderation="auto", output_format="png", output_compression=100, response_format="b64_json", user="me",
        stream=False,
    )  # fmt: skip
    assert answer.size == "64x64" and answer.data[0].b64_json


def test_generate_urls(api, address):
    url = api.images.generate(prompt=PROMPT, response_format="url").data[0].url
    assert url.startswith(f"{address}/v1/images/files/")
    assert pixels(httpx.get(url).content).shape == (64, 64, 3)


def test_generate_stream(api):
    with api.images.generate(prompt=PROMPT, stream=True, partial_images=2, extra_body={"steps": 8}) as stream:
        events = list(stream)
    assert [type(event).__name__ for event in events] == ["ImageGenPartialImageEvent"] * 2 + ["ImageGenCompletedEvent"]
    for event in events:
        assert pixels(event.b64_json).shape == (64, 64, 3)
        assert (event.size, event.quality, event.background, event.output_format) == ("64x64", "auto", "opaque", "png")
    assert [event.partial_image_index for event in events[:2]] == [0, 1]
    assert events[2].usage.total_tokens == events[2].usage.input_tokens + 1


def test_edit_with_files_and_nouns(api):
    files = [("star.png", subject_png("red")), io.BytesIO(subject_png("blue"))]
    answer = api.images.edit(image=files, prompt=PROMPT, extra_body={"noun": ["star", "heart"], "seed": 3})
    assert answer.data[0].seed == 3 and answer.usage.input_tokens_details.image_tokens == 2
    told = answer.data[0].manifest["request"]["subjects"]
    assert [item["noun"] for item in told] == ["star", "heart"]


def test_edit_with_one_file(api):
    answer = api.images.edit(image=subject_png(), prompt=PROMPT, n=2, extra_body={"noun": "star"})
    assert len(answer.data) == 2


def test_edit_stream(api):
    with api.images.edit(
        image=subject_png(), prompt=PROMPT, stream=True, partial_images=1, extra_body={"noun": "star", "steps": 6}
    ) as stream:
        names = [type(event).__name__ for event in stream]
    assert names == ["ImageEditPartialImageEvent", "ImageEditCompletedEvent"]


def test_edit_with_edges_as_json(api):
    from made_picture import b64

    body = {"prompt": PROMPT, "edges": b64(edges_png()), "seed": 1}
    answer = api.post("/images/edits", body=body, cast_to=dict)
    assert answer["data"][0]["outcome"] == "ok"


def test_models(api):
    listed = {model.id: model for model in api.models.list()}
    model = api.models.retrieve("eclipse-prior-eclipse-mini")
    assert model == listed["eclipse-prior-eclipse-mini"]
    assert model.lineage["dataset_digest"] == "d" * 64 and model.role == "champion"


@pytest.mark.parametrize(
    ("kind", "code", "arguments"),
    [
        (openai.BadRequestError, "invalid_value", {"size": "1024x1024"}),
        (openai.BadRequestError, "prompt_too_long", {"prompt": "star " * 100}),
        (openai.NotFoundError, "model_not_found", {"model": "gpt-image-2"}),
    ],
)
def test_its_errors_are_its_own(api, kind, code, arguments):
    with pytest.raises(kind) as raised:
        api.images.generate(**{"prompt": PROMPT, **arguments})
    assert raised.value.code == code and raised.value.param


def test_an_error_on_the_way_of_a_stream_is_raised(api, monkeypatch):
    from eclipse.serve import render
    from eclipse.serve.safety import Blocked

    monkeypatch.setattr(render, "judge_picture", lambda *_: Blocked("nudity"))
    with (
        pytest.raises(openai.APIError, match="nudity"),
        api.images.generate(prompt=PROMPT, stream=True) as stream,
    ):
        list(stream)
