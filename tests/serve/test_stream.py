"""Server-sent events as OpenAI's client reads them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from made_picture import b64, pixels, subject_png

from eclipse.serve import render
from eclipse.serve.safety import Blocked, Degenerate, Ok
from eclipse.serve.types import GivenUpError

PATH = "/v1/images/generations"
PROMPT = "a red star left of a blue heart"


def events(response) -> list[dict]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = [block.split("\n") for block in response.text.strip().split("\n\n")]
    told = []
    for name, data in blocks:
        told.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {told[-1]['type']}"
    return told


def stream(client, path=PATH, **body):
    return client.post(path, json={"prompt": PROMPT, "stream": True, **body})


def test_unfinished_pictures_come_before_the_finished_one_which_is_that_of_a_plain_call(client):
    told = events(stream(client, seed=3, steps=8, partial_images=2))
    assert [event["type"] for event in told] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    assert [event.get("partial_image_index") for event in told] == [0, 1, None]
    plain = client.post(PATH, json={"prompt": PROMPT, "seed": 3, "steps": 8}).json()
    pictures = [pixels(event["b64_json"]) for event in told]
    assert np.array_equal(pictures[-1], pixels(plain["data"][0]["b64_json"]))
    assert not np.array_equal(pictures[0], pictures[1])
    assert told[-1]["usage"] == plain["usage"] and told[-1]["manifest"]["request"]["seed"] == 3


def test_several_pictures_tell_which_they_are(client):
    told = events(stream(client, n=3, seed=3))
    assert {(event["index"], event["seed"]) for event in told} == {(0, 3), (1, 4), (2, 5)}
    assert all(event["type"] == "image_generation.completed" for event in told)


def test_an_edit_has_events_of_its_own_name(client):
    subject = {"noun": "star", "image": b64(subject_png())}
    told = events(stream(client, "/v1/images/edits", subjects=[subject], steps=6, partial_images=1))
    assert [event["type"] for event in told] == ["image_edit.partial_image", "image_edit.completed"]


def test_a_refusal_is_an_error_and_no_stream(client):
    answer = stream(client, n=10, steps=50)
    assert answer.status_code == 400 and "decoder steps" in answer.json()["error"]["message"]
    assert stream(client, model="nothing").status_code == 404


@pytest.mark.parametrize(
    ("outcome", "code"), [(Blocked("nudity"), "content_blocked"), (Degenerate("x"), "degenerate_image")]
)
def test_a_picture_that_is_withheld_ends_in_an_error(client, monkeypatch, outcome, code):
    monkeypatch.setattr(render, "judge_picture", lambda *_: outcome)
    told = events(stream(client))
    assert [event["type"] for event in told] == ["image_generation.withheld", "error"]
    assert told[0]["outcome"] in ("blocked", "degenerate") and "b64_json" not in told[0]
    assert told[1]["error"]["code"] == code


def test_one_that_is_withheld_beside_others_is_no_error(client, monkeypatch):
    waiting = [Ok(), Blocked("nudity")]
    monkeypatch.setattr(render, "judge_picture", lambda *_: waiting.pop(0))
    kinds = sorted(event["type"] for event in events(stream(client, n=2)))
    assert kinds == ["image_generation.completed", "image_generation.withheld"]


def test_what_goes_wrong_on_the_way_is_the_last_event(client, serving, monkeypatch):
    class Broken:
        def __aiter__(self):
            return self

        async def __anext__(self):
            raise GivenUpError("took longer than 1 s")

        def cancel(self):
            pass

    monkeypatch.setattr(serving.engine, "submit", lambda job: Broken())
    told = events(stream(client))
    assert [event["type"] for event in told] == ["error"]
    assert told[0]["error"]["code"] == "timeout" and "1 s" in told[0]["error"]["message"]
