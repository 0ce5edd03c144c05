"""Embeddings, interpolation, models, limits, figures and the page."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_picture import pixels

from eclipse.models.api import predict
from eclipse.models.checkpoint import load_prior
from eclipse.personalize.interpolate import slerp

ECLIPSE, LAMBDA = "eclipse-prior-eclipse-mini", "eclipse-prior-lambda-eclipse-mini"


def embed(client, prompt, **body):
    answer = client.post("/v1/embeddings/prior", json={"prompt": prompt, "seed": 4, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


class TestEmbeddings:
    def test_it_is_the_priors_own_prediction(self, client, serving, served_root):
        told = embed(client, ["a red star", "a blue heart"])
        prior = load_prior(served_root / "artifacts/selected")
        for item, prompt in zip(told["data"], ["a red star", "a blue heart"], strict=True):
            encoding = serving.clip.encode_text(serving.clip.tokenize([prompt]))
            wanted = predict(prior, encoding, seeds=[4])[0]
            assert torch.allclose(torch.tensor(item["embedding"]), wanted, atol=1e-4)
            assert item["norm"] == pytest.approx(float(wanted.norm()), rel=1e-5)
        assert told["model"] == ECLIPSE and told["prior_hash"] == serving.catalogue.get(ECLIPSE).prior_hash

    def test_both_priors_answer_and_differ(self, client):
        assert embed(client, "a star")["data"] != embed(client, "a star", model=LAMBDA)["data"]

    @pytest.mark.parametrize("body", [{"prompt": ["a"] * 11}, {"prompt": ""}, {"prompt": "a", "n": 2}, {}])
    def test_refusals(self, client, body):
        assert client.post("/v1/embeddings/prior", json=body).status_code == 400


class TestInterpolation:
    def ask(self, client, **body):
        return client.post("/v1/interpolate", json={"from": "a red star", "to": "a blue heart", "seed": 4, **body})

    def test_the_ends_are_the_pictures_of_the_prompts_and_the_way_is_even(self, client):
        data = self.ask(client, frames=3).json()["data"]
        assert [item["at"] for item in data] == [0, 0.5, 1]
        assert {item["seed"] for item in data} == {4}
        for end, prompt in ((0, "a red star"), (2, "a blue heart")):
            alone = client.post("/v1/images/generations", json={"prompt": prompt, "seed": 4}).json()["data"][0]
            assert np.array_equal(pixels(data[end]["b64_json"]), pixels(alone["b64_json"]))
        blend = data[1]["manifest"]["request"]["blend"]
        assert (blend["at"], blend["mode"]) == (0.5, "slerp")

    def test_the_two_ways_differ_between_the_ends_only(self, client):
        round_, straight = (self.ask(client, frames=3, mode=mode).json()["data"] for mode in ("slerp", "linear"))
        same = [
            np.array_equal(pixels(a["b64_json"]), pixels(b["b64_json"])) for a, b in zip(round_, straight, strict=True)
        ]
        ends = [torch.tensor(item["embedding"]) for item in embed(client, ["a red star", "a blue heart"])["data"]]
        assert not torch.allclose(slerp(*ends, 0.5), ends[0] / 2 + ends[1] / 2)
        assert same == [True, False, True]

    @pytest.mark.parametrize(
        ("body", "param"),
        [({"frames": 1}, "frames"), ({"frames": 11}, "frames"), ({"mode": "cubic"}, "mode"), ({"from": " "}, "from"),
         ({"to": "a\0"}, "to"), ({"n": 2}, "n"), ({"stream": True}, "stream")],
    )  # fmt: skip
    def test_refusals(self, client, body, param):
        answer = self.ask(client, **body)
        assert answer.status_code == 400 and answer.json()["error"]["param"] == param


class TestModels:
    def test_all_are_listed_with_their_lineage(self, client, serving):
        listed = client.get("/v1/models").json()
        assert listed["object"] == "list"
        assert {item["id"]: item["variant"] for item in listed["data"]} == {
            ECLIPSE: "eclipse",
            LAMBDA: "lambda-eclipse",
        }
        for item in listed["data"]:
            assert item["lineage"]["encoder_hash"] == serving.clip.weights_hash
            assert (item["role"], item["release"], item["object"]) == ("champion", "unpromoted", "model")
            assert client.get(f"/v1/models/{item['id']}").json() == item

    def test_another_is_a_404(self, client):
        assert client.get("/v1/models/nothing").json()["error"]["code"] == "model_not_found"

    def test_the_limits_are_the_parameters(self, client):
        told = client.get("/v1/limits").json()
        assert (told["steps"], told["max_steps"], told["max_images"]) == (2, 50, 10)
        assert (told["sizes"], told["max_prompt_tokens"], told["max_subjects"]) == (["64x64"], 77, 4)
        assert told["max_body_bytes"] == 2_000_000 and told["max_picture_pixels"] == 1_000_000


class TestFigures:
    def value(self, client, name: str) -> float:
        lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith(name)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    @pytest.mark.parametrize(
        ("name", "more"),
        [
            ('eclipse_phase_seconds_count{phase="text"}', 1),
            ('eclipse_phase_seconds_count{phase="prior"}', 2),
            ('eclipse_phase_seconds_count{phase="decoder"}', 2),
            ('eclipse_phase_seconds_count{phase="queue"}', 2),
            ('eclipse_images_total{outcome="ok",role="champion",variant="eclipse"}', 2),
            ('eclipse_request_seconds_count{route="/v1/images/generations",status="200"}', 1),
        ],
    )
    def test_pictures_are_counted(self, client, name, more):
        before = self.value(client, name)
        client.post("/v1/images/generations", json={"prompt": f"a star {name[-9:]}", "n": 2})
        assert self.value(client, name) - before >= (1 if more == 1 else 2)

    def test_refusals_are_counted_by_reason(self, client):
        name = 'eclipse_refusals_total{code="not_found"}'
        before = self.value(client, name)
        client.get("/v1/nothing")
        assert self.value(client, name) == before + 1

    def test_labels_do_not_grow_with_what_is_asked_for(self, client):
        client.get("/v1/images/files/abc.png")
        lines = client.get("/metrics").text.count("\n")
        for i in range(20):
            client.get(f"/v1/images/files/{i}.png")
            client.get(f"/nothing/{i}")
            client.get(f"/v1/models/{i}")
        assert client.get("/metrics").text.count("\n") - lines < 40  # series of two routes, none of sixty paths

    def test_nothing_is_pending_when_all_is_answered(self, client):
        assert self.value(client, "eclipse_pending_steps") == 0
        assert self.value(client, "eclipse_slots_in_use") == 0


class TestPage:
    def test_the_page_is_there_and_loads_nothing_from_elsewhere(self, client):
        answer = client.get("/")
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "http://" not in answer.text and "https://" not in answer.text

    @pytest.mark.parametrize(
        "path", ["/page/nothing.js", "/page/../app.py", "/page/%2e%2e/app.py", "/docs", "/docs.json"]
    )
    def test_nothing_else_is(self, client, path):
        assert client.get(path).status_code == 404

    def test_every_answer_forbids_guessing_its_type(self, client):
        for path in ("/", "/v1/models", "/v1/nothing", "/openapi.json", "/metrics"):
            assert client.get(path).headers["x-content-type-options"] == "nosniff"
