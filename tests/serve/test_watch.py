"""Hot-swap: a new champion is switched to under load, and what cannot be loaded changes nothing."""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter

import httpx
import pytest
from listening import listening
from made_server import FOLDERS, make_prior, make_root

from eclipse.serve.app import create_app
from eclipse.serve.engine import load_priors
from eclipse.serve.load import load
from eclipse.serve.watch import Watcher

MODEL = "eclipse-prior-eclipse-mini"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_root(tmp_path_factory.mktemp("swapped") / "root", slots=2, prior_batch=2)


@pytest.fixture
def serving(root):
    made = load(root)
    yield made
    made.engine.close(0)


@pytest.fixture
def watcher(serving, root):
    return Watcher(serving, root, load_priors)


def swaps(serving) -> dict[str, float]:
    samples = [sample for metric in serving.metrics.swaps.collect() for sample in metric.samples]
    return {s.labels["outcome"]: s.value for s in samples if s.name.endswith("_total")}


def test_a_new_champion_is_served_without_a_dropped_request(serving, watcher, root):
    old = serving.catalogue.get(MODEL).prior_hash
    answers: list[httpx.Response] = []
    enough = threading.Event()
    with listening(create_app(serving)) as port:

        def ask() -> None:
            while not enough.is_set():
                body = {"prompt": "a star", "seed": 3}
                answers.append(httpx.post(f"http://127.0.0.1:{port}/v1/images/generations", json=body, timeout=60))

        clients = [threading.Thread(target=ask) for _ in range(4)]
        for thread in clients:
            thread.start()
        new = make_prior(root / FOLDERS["eclipse"], "eclipse", seed=1)
        watcher.look()
        wait = threading.Event()
        for _ in range(600):
            if len(answers) > 12 and answers[-1].json()["data"][0]["manifest"]["prior"]["hash"] == new:
                break
            wait.wait(0.1)
        enough.set()
        for thread in clients:
            thread.join(60)
    assert {answer.status_code for answer in answers} == {200}
    hashes = [answer.json()["data"][0]["manifest"]["prior"]["hash"] for answer in answers]
    assert set(hashes) <= {old, new} and new in hashes
    pictures = Counter(
        (h, a.json()["data"][0]["manifest"]["image"]["sha256"]) for h, a in zip(hashes, answers, strict=True)
    )
    assert len(pictures) == len(set(hashes))  # a prior's picture is the same before, during and after the switch
    assert serving.catalogue.get(MODEL).prior_hash == new
    assert swaps(serving) == {"done": 1}


def test_a_look_at_nothing_new_does_nothing(serving, watcher):
    before = serving.catalogue
    watcher.look()
    assert serving.catalogue is before and swaps(serving) == {}


def test_a_damaged_release_is_told_once_and_the_old_one_goes_on(serving, watcher, root, caplog):
    before = serving.catalogue.get(MODEL).prior_hash
    folder = root / FOLDERS["eclipse"]
    shutil.copytree(folder, root / "kept")
    (folder / "config.json").write_text("{}")
    for _ in range(3):
        watcher.look()
    assert swaps(serving) == {"failed": 1}
    assert sum("the old one goes on" in record.message for record in caplog.records) == 1
    assert serving.catalogue.get(MODEL).prior_hash == before
    shutil.rmtree(folder)
    shutil.move(root / "kept", folder)
    make_prior(folder, "eclipse", seed=2)
    watcher.look()
    assert swaps(serving) == {"failed": 1, "done": 1}


def test_a_prior_of_another_clip_is_refused(serving, watcher, root):
    folder = root / FOLDERS["eclipse"]
    make_prior(folder, "eclipse", seed=3)
    kept = (folder / "training.json").read_text()
    (folder / "training.json").write_text(json.dumps(json.loads(kept) | {"encoder_hash": "0" * 64}))
    watcher.look()
    assert swaps(serving) == {"failed": 1}
    (folder / "training.json").write_text(kept)
    watcher.look()
    assert swaps(serving) == {"failed": 1, "done": 1}


def test_other_frozen_models_need_a_restart_and_it_is_told(serving, watcher, root, caplog):
    make_prior(root / FOLDERS["eclipse"], "eclipse", seed=4)
    note = root / "artifacts/frozen/decoder/note.txt"
    note.write_text("another decoder")
    watcher.look()
    assert "restart the server" in caplog.text and swaps(serving) == {"failed": 1}
    note.unlink()


def test_the_thread_looks_by_itself_and_stops(serving, watcher, root):
    watcher.start()
    new = make_prior(root / FOLDERS["eclipse"], "eclipse", seed=5)
    wait = threading.Event()
    for _ in range(300):
        if serving.catalogue.get(MODEL).prior_hash == new:
            break
        wait.wait(0.1)
    watcher.stop()
    assert serving.catalogue.get(MODEL).prior_hash == new and not watcher.is_alive()
