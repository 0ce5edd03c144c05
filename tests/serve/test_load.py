"""What a server refuses to start with, and sizes beside the decoder's own."""

from __future__ import annotations

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from fastapi.testclient import TestClient
from listening import listening
from made_picture import b64, edges_png, pixels
from made_server import FOLDERS, make_root

from eclipse.errors import CheckpointError, ConfigError
from eclipse.serve.app import create_app
from eclipse.serve.load import load


@pytest.mark.parametrize("name", ["large", "64", "64x", "0x64", "64x64x3", "-64x64", "63x64"])
def test_a_size_that_cannot_be_drawn_is_told_at_the_start(tmp_path, name):
    with pytest.raises(ConfigError, match=r"serve\.sizes"):
        load(make_root(tmp_path / "root", sizes=[name]))


def test_another_size_can_be_asked_for(tmp_path):
    serving = load(make_root(tmp_path / "root", sizes=["32x64"], slots=2, prior_batch=2))
    client = TestClient(create_app(serving))
    assert client.get("/v1/limits").json()["sizes"] == ["64x64", "32x64"]
    answer = client.post("/v1/images/generations", json={"prompt": "a star", "size": "32x64"}).json()
    assert pixels(answer["data"][0]["b64_json"]).shape == (64, 32, 3) and answer["size"] == "32x64"
    serving.engine.close(0)


def test_a_checker_that_is_not_installed_is_told_at_the_start(tmp_path):
    with pytest.raises(ConfigError, match="nothing-of-the-kind"):
        load(make_root(tmp_path / "root", safety_checker="nothing-of-the-kind"))


def test_a_changed_prior_is_refused(tmp_path):
    root = make_root(tmp_path / "root")
    config = root / FOLDERS["eclipse"] / "config.json"
    config.write_text(config.read_text() + "\n")
    with pytest.raises(CheckpointError, match="artifacts/selected: holds the prior"):
        load(root)


def test_another_clip_than_the_priors_is_refused(tmp_path):
    root = make_root(tmp_path / "root")
    config = root / "artifacts/frozen/clip/open_clip_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"preprocess_cfg": {"mean": [0.5] * 3}}))
    with pytest.raises(CheckpointError, match="but the priors were trained on"):
        load(root)


def test_what_is_left_when_the_drain_is_over_is_a_503(tmp_path):
    serving = load(make_root(tmp_path / "root", slots=2, prior_batch=2))
    long = {"prompt": "a star", "n": 4, "steps": 50}
    with listening(create_app(serving)) as port, ThreadPoolExecutor(1) as pool:
        url = f"http://127.0.0.1:{port}/v1/images/generations"
        asked = pool.submit(httpx.post, url, json=long, timeout=60)
        while not serving.engine.stats().slots_in_use:
            time.sleep(0.02)
        serving.engine.close(0.2)
        answers = asked.result(), httpx.post(url, json=long, timeout=60)
    for answer in answers:
        assert answer.status_code == 503 and answer.headers["Retry-After"]
        assert answer.json()["error"]["message"] == "the server is stopping"


def test_one_variant_is_enough(tmp_path):
    root = make_root(tmp_path / "root", slots=2, prior_batch=2)
    shutil.rmtree(root / FOLDERS["lambda-eclipse"])
    serving = load(root)
    client = TestClient(create_app(serving))
    assert client.get("/v1/limits").json()["max_subjects"] == 0
    answer = client.post("/v1/images/edits", json={"prompt": "a star", "edges": b64(edges_png())})
    assert answer.status_code == 404 and "promote a λ-ECLIPSE prior" in answer.json()["error"]["message"]
    assert client.post("/v1/images/generations", json={"prompt": "a star"}).status_code == 200
    serving.engine.close(0)
