"""A server whose decoder is Karlo: the same API, saying what this decoder takes."""

from __future__ import annotations

import shutil

import pytest
from fastapi.testclient import TestClient
from made_decoders import make_karlo
from made_picture import pixels
from made_server import make_root

from eclipse.errors import ConfigError
from eclipse.serve.app import create_app
from eclipse.serve.load import load

SETTINGS = {"scheduler": "unclip", "slots": 2, "prior_batch": 2, "max_pending": 500}


def with_karlo(root, **serve):
    made = make_root(root, **SETTINGS | serve)
    shutil.rmtree(made / "artifacts/frozen/decoder")
    make_karlo(made / "artifacts/frozen/decoder", 96)
    return made


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    serving = load(with_karlo(tmp_path_factory.mktemp("karlo") / "root"))
    yield TestClient(create_app(serving), raise_server_exceptions=False)
    serving.engine.close(0)


def ask(client, **changes):
    return client.post("/v1/images/generations", json={"prompt": "a star", "seed": 1} | changes)


def test_pictures_are_drawn_and_depend_on_the_prompt_that_the_decoder_reads(client):
    first, other = (ask(client, prompt=prompt) for prompt in ("a star", "a red heart"))
    assert first.status_code == other.status_code == 200
    assert pixels(first.json()["data"][0]["b64_json"]).shape == (64, 64, 3)
    assert first.json()["data"][0]["b64_json"] != other.json()["data"][0]["b64_json"]
    assert client.post("/v1/interpolate", json={"from": "a star", "to": "a heart", "frames": 2}).status_code == 200


def test_limits_and_document_name_its_samplers_alone(client):
    limits = client.get("/v1/limits").json()
    assert (limits["schedulers"], limits["scheduler"], limits["sizes"]) == (["unclip"], "unclip", ["64x64"])
    field = client.get("/openapi.json").json()["components"]["schemas"]["Generation"]["properties"]["scheduler"]
    assert [choice["enum"] for choice in field["anyOf"] if "enum" in choice] == [["unclip"]]


def test_what_it_does_not_take_is_a_400_that_lists_what_it_takes(client):
    refused = ask(client, scheduler="dpm++")
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "scheduler"
    assert "dpm++ is not right with this decoder; give unclip" in refused.json()["error"]["message"]
    few = ask(client, steps=1)
    assert few.status_code == 400 and "steps: 1; give 2 to 1000" in few.json()["error"]["message"]


def test_super_resolution_counts_for_admission(client):
    refused = ask(client, n=5, steps=10)
    assert refused.status_code == 400 and "costs 540 decoder steps" in refused.json()["error"]["message"]


def test_a_default_sampler_that_is_not_right_with_it_is_told_at_the_start(tmp_path):
    with pytest.raises(ConfigError, match=r"serve: scheduler 'dpm\+\+' is not right.*choose unclip"):
        load(with_karlo(tmp_path / "root", scheduler="dpm++"))
