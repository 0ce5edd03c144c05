"""Pictures of prompts over HTTP: what is asked for comes, and what cannot be asked for is told by its field."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from made_picture import pixels

from eclipse.serve import render
from eclipse.serve.provenance.png import read_provenanced
from eclipse.serve.safety import Blocked, Degenerate, Ok

PATH = "/v1/images/generations"
PROMPT = "a red star left of a blue heart"


def ask(client, **body):
    return client.post(PATH, json={"prompt": PROMPT, **body})


def refused(response, status=400):
    """The error of a refusal, checked for OpenAI's shape."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    assert error["type"] == ("invalid_request_error" if status < 500 else "server_error")
    return error


class TestPictures:
    def test_each_picture_has_its_own_seed_and_the_same_bits_alone(self, client):
        together = ask(client, n=3, seed=7).json()
        assert [item["seed"] for item in together["data"]] == [7, 8, 9]
        assert [item["index"] for item in together["data"]] == [0, 1, 2]
        assert together["size"] == "64x64" and together["model"] == "eclipse-prior-eclipse-mini"
        alone = ask(client, seed=8).json()["data"][0]
        assert np.array_equal(pixels(alone["b64_json"]), pixels(together["data"][1]["b64_json"]))
        assert not np.array_equal(pixels(alone["b64_json"]), pixels(together["data"][0]["b64_json"]))

    def test_every_prompt_of_a_list_gets_n_pictures(self, client):
        answer = client.post(PATH, json={"prompt": [PROMPT, "a green ring"], "n": 2, "seed": 1}).json()
        assert [item["seed"] for item in answer["data"]] == [1, 2, 1, 2]
        told = [item["manifest"]["request"]["prompt"] for item in answer["data"]]
        assert told == [PROMPT, PROMPT, "a green ring", "a green ring"]

    def test_without_a_seed_there_is_another_each_time_and_it_is_told(self, client):
        seeds = [ask(client).json()["data"][0]["seed"] for _ in range(3)]
        assert len(set(seeds)) == 3
        assert min(seeds) >= 0 and max(seeds) < 2**32

    @pytest.mark.parametrize(
        "change",
        [
            {"steps": 3},
            {"guidance": 1.0},
            {"scheduler": "ddim"},
            {"negative_prompt": "a green ring"},
            {"model": "lambda"},
        ],
    )
    def test_every_setting_reaches_the_decoder_and_the_manifest(self, client, change):
        if "model" in change:
            change = {"model": "eclipse-prior-lambda-eclipse-mini"}
        plain, other = ask(client, seed=3).json()["data"][0], ask(client, seed=3, **change).json()["data"][0]
        assert not np.array_equal(pixels(plain["b64_json"]), pixels(other["b64_json"]))
        name, value = next(iter(change.items()))
        assert other["manifest"]["request"][name] == value

    def test_the_png_carries_the_manifest_that_is_told(self, client):
        item = ask(client, seed=3).json()["data"][0]
        found = read_provenanced(base64.b64decode(item["b64_json"]), "picture")
        assert found.manifest == item["manifest"]
        assert found.manifest["request"]["seed"] == 3

    def test_usage_counts_tokens(self, client):
        usage = ask(client, n=2).json()["usage"]
        words = len(PROMPT.split())  # each a single token, between two markers
        assert usage["input_tokens_details"] == {"text_tokens": words + 2, "image_tokens": 0}
        assert (usage["output_tokens"], usage["total_tokens"]) == (2, words + 4)

    def test_nulls_and_openais_harmless_fields_are_taken(self, client):
        nulls = dict.fromkeys(("n", "size", "seed", "steps", "stream", "partial_images", "response_format", "model"))
        fields = {"quality": "auto", "background": "opaque", "moderation": "auto", "output_format": "png", "user": "me"}
        assert ask(client, **nulls, **fields, output_compression=100, safety_identifier="x").status_code == 200

    def test_a_curl_without_a_header_works(self, client):
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert client.post(PATH, content=b'{"prompt": "a star"}', headers=form).status_code == 200


class TestUrls:
    def test_a_picture_can_be_fetched_at_its_address(self, client):
        inline, linked = (ask(client, seed=3, response_format=form).json()["data"][0] for form in ("b64_json", "url"))
        assert "b64_json" not in linked and linked["url"].startswith("http://testserver/v1/images/files/")
        answer = client.get(linked["url"])
        assert answer.headers["content-type"] == "image/png"
        assert np.array_equal(pixels(answer.content), pixels(inline["b64_json"]))

    @pytest.mark.parametrize("name", ["nothing", "..%2F..%2Fparams", "%00", "a" * 65])
    def test_nothing_else_can(self, client, name):
        assert refused(client.get(f"/v1/images/files/{name}.png"), 404 if len(name) < 65 else 400)


class TestRefusals:
    @pytest.mark.parametrize(
        ("body", "param", "says"),
        [
            ({"n": 0}, "n", "greater than or equal to 1"),
            ({"n": 11}, "n", "at most 10"),
            ({"n": True}, "n", "valid integer"),
            ({"n": "2"}, "n", "valid integer"),
            ({"n": 1.5}, "n", "valid integer"),
            ({"n": 10**30}, "n", ""),
            ({"seed": -1}, "seed", "greater than or equal to 0"),
            ({"seed": 2**53}, "seed", "less than or equal to"),
            ({"steps": 51}, "steps", "at most 50"),
            ({"steps": 0}, "steps", ""),
            ({"guidance": 20.5}, "guidance", ""),
            ({"scheduler": "euler"}, "scheduler", "not right with this decoder; give dpm++, ddim, ddpm"),
            ({"size": "1024x1024"}, "size", "give auto or 64x64"),
            ({"size": "64 x 64"}, "size", ""),
            ({"size": "0x64"}, "size", ""),
            ({"quality": "hd"}, "quality", ""),
            ({"background": "transparent"}, "background", ""),
            ({"output_format": "webp"}, "output_format", "'png'"),
            ({"style": "vivid"}, "style", "cannot be honoured"),
            ({"mask": "x"}, "mask", "cannot be honoured"),
            ({"sed": 7}, "sed", "is not a parameter"),
            ({"prompt": ""}, "prompt", "prompt: is empty"),
            ({"prompt": "  \n "}, "prompt", "is empty"),
            ({"prompt": []}, "prompt", ""),
            ({"prompt": ["a", " "]}, "prompt.1", "is empty"),
            ({"prompt": ["a", 3]}, "prompt", "string"),
            ({"prompt": None}, "prompt", "string"),
            ({"prompt": ["a star"] * 11}, "n", "at most 10"),
            ({"prompt": "a\0star"}, "prompt", "control characters"),
            ({"prompt": "a" * 10**6}, "prompt", "1000000 characters, but at most 1000"),
            ({"prompt": "star " * 100}, "prompt", "102 tokens do not fit the context of 77"),
            ({"prompt": "a <end_of_text> star"}, "prompt", "marker"),
            ({"negative_prompt": "star " * 100}, "negative_prompt", "102 tokens"),
            ({"partial_images": 2}, "partial_images", "stream"),
            ({"partial_images": 4, "stream": True}, "partial_images", ""),
            ({"stream": True, "prompt": ["a", "b"]}, "prompt", "one prompt"),
            ({"stream": True, "response_format": "url"}, "response_format", "b64_json"),
            ({"response_format": "bytes"}, "response_format", "'b64_json' or 'url'"),
            ({"n": 10, "steps": 50}, None, "500 decoder steps"),
        ],
    )
    def test_what_is_wrong_is_told_by_its_field(self, client, body, param, says):
        error = refused(ask(client, **body))
        assert error["param"] == param
        assert says in error["message"]
        assert len(error["message"]) < 500  # no echo of what was sent

    def test_an_unknown_model_is_a_404_that_names_those_there_are(self, client):
        error = refused(ask(client, model="gpt-image-2"), 404)
        assert (error["code"], error["param"]) == ("model_not_found", "model")
        assert "eclipse-prior-eclipse-mini" in error["message"]

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b'"prompt"',
            b'{"prompt": "a", "guidance": NaN}',
            b'{"prompt": "a", "guidance": Infinity}',
            b'{"prompt": "a", "guidance": 1e999}',
            b'{"prompt": "\\ud800 star"}',
            b'{"prompt": "\xff"}',
            b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}",
            b"[" * 100_000,
            b'{"prompt": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        ],
    )
    def test_broken_json_is_a_400(self, client, body):
        refused(client.post(PATH, content=body, headers={"Content-Type": "application/json"}))

    def test_another_media_type_is_refused(self, client):
        refused(client.post(PATH, content=b'{"prompt": "a star"}', headers={"Content-Type": "text/plain"}))

    def test_a_large_body_is_a_413(self, client):
        refused(client.post(PATH, content=b" " * 2_000_001, headers={"Content-Type": "application/json"}), 413)

    def test_unknown_paths_and_methods_are_told_in_the_same_shape(self, client):
        refused(client.get("/v1/nothing"), 404)
        answer = client.get(PATH)
        refused(answer, 405)
        assert answer.headers["allow"] == "POST"


class TestOutcomes:
    @pytest.fixture
    def judged(self, monkeypatch):
        def judge(*outcomes):
            waiting = list(outcomes)
            monkeypatch.setattr(render, "judge_picture", lambda *_: waiting.pop(0))

        return judge

    def test_one_withheld_picture_is_told_beside_the_others(self, client, judged):
        judged(Ok(), Blocked("nudity"), Degenerate("not finite"))
        data = ask(client, n=3).json()["data"]
        assert [item["outcome"] for item in data] == ["ok", "blocked", "degenerate"]
        assert [item.get("reason") for item in data] == [None, "nudity", "not finite"]
        assert ["b64_json" in item for item in data] == [True, False, False]

    def test_nothing_but_blocked_ones_is_a_400(self, client, judged):
        judged(Degenerate("not finite"), Blocked("nudity"))
        error = refused(ask(client, n=2))
        assert error["code"] == "content_blocked" and "nudity" in error["message"]

    def test_nothing_but_degenerate_ones_is_a_500_that_says_so(self, client, judged):
        judged(Degenerate("the decoder's output was not finite"))
        answer = ask(client)
        error = refused(answer, 500)
        assert error["code"] == "degenerate_image" and "not finite" in error["message"]
        assert answer.headers["x-should-retry"] == "false"

    def test_a_failure_inside_tells_nothing_of_itself(self, client, monkeypatch, caplog):
        monkeypatch.setattr(render, "judge_picture", lambda *_: 1 / 0)
        answer = ask(client)
        error = refused(answer, 500)
        assert error["code"] == "server_error"
        assert "division" not in answer.text and "Traceback" not in answer.text
        assert "division by zero" in caplog.text
