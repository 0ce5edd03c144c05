"""``bentoml serve`` itself: what it binds to, what it shows, how it dies, and how it comes back."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import openai
import psutil
import pytest
from listening import listening
from made_picture import pixels
from made_server import REPOSITORY, make_root

from eclipse.serve.lifetime import Mounted, Worker

TARGET = "eclipse.serve.service:EclipseService"
SECONDS = 180  # on a busy machine


class Server:
    """``bentoml serve`` in ``root``."""

    def __init__(self, root: Path, log: Path, *flags: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        without = {key: value for key, value in os.environ.items() if not key.startswith(("BENTOML_", "ECLIPSE_"))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bentoml", "serve", TARGET, "--port", str(self.port), *flags],
            cwd=root,
            env=without | {"PYTHONPATH": str(REPOSITORY), "BENTOML_HOME": str(log.parent / "bentoml")},
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
        )

    def status(self, path: str) -> int:
        try:
            return httpx.get(f"{self.url}{path}", timeout=5).status_code
        except httpx.HTTPError:
            return 0

    def wait(self, path: str = "/readyz", status: int = 200) -> None:
        end = time.monotonic() + SECONDS
        while self.status(path) != status:
            assert self.process.poll() is None and time.monotonic() < end, self.log.read_text()
            time.sleep(0.2)

    def worker(self) -> psutil.Process:
        (found,) = (
            child
            for child in psutil.Process(self.process.pid).children(recursive=True)
            if "_bentoml_impl.worker.service" in child.cmdline()
        )
        return found

    def draw(self, **body: object) -> httpx.Response:
        asked = {"prompt": "a red star", "seed": 7, **body}
        return httpx.post(f"{self.url}/v1/images/generations", json=asked, timeout=SECONDS)

    def kill(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.process.pid).children(recursive=True):
                process.kill()
        self.process.kill()
        self.process.wait()


def until(condition, seconds=SECONDS) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_root(tmp_path_factory.mktemp("served") / "root", slots=2, prior_batch=2)


@pytest.fixture(scope="module")
def server(root, tmp_path_factory):
    started = Server(root, tmp_path_factory.mktemp("log") / "serve.log")
    yield started
    started.kill()


@pytest.mark.slow
class TestServing:
    """In this order, on one server: it lives, its worker is killed, and in the end it is told to stop."""

    def test_while_it_loads_it_says_so(self, server):
        server.wait("/livez")
        assert [server.status(path) for path in ("/healthz", "/v1/models", "/readyz")] == [503, 503, 503]
        server.wait()
        assert server.status("/healthz") == server.status("/livez") == 200

    def test_it_listens_on_loopback_only(self, server):
        mine = [c for c in server.worker().net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        assert {connection.laddr.ip for connection in mine} == {"127.0.0.1"}

    def test_nothing_of_bentomls_is_seen(self, server):
        page = httpx.get(server.url)
        assert "ECLIPSE" in page.text and "BentoML" not in page.text and "googletag" not in page.text
        for path in ("/docs.json", "/schema.json", "/static_content/index.css", "/docs", "/redoc"):
            answer = httpx.get(f"{server.url}{path}")
            assert answer.status_code == 404 and answer.json()["error"]["code"] == "not_found"

    def test_openais_client_and_the_figures(self, server):
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
        answer = client.images.generate(prompt="a red star", n=2, extra_body={"seed": 7})
        assert [pixels(item.b64_json).shape for item in answer.data] == [(64, 64, 3)] * 2
        figures = httpx.get(f"{server.url}/metrics").text
        assert 'eclipse_phase_seconds_count{phase="decoder"} 2.0' in figures
        assert "bentoml" not in figures

    def test_no_header_tells_what_runs(self, server):
        assert "server" not in httpx.get(f"{server.url}/v1/models").headers

    def test_a_killed_worker_comes_back_and_draws_the_same(self, server):
        before, killed = server.draw().json(), server.worker()
        with contextlib.suppress(httpx.HTTPError):
            threading.Timer(0.3, killed.kill).start()
            server.draw(steps=50, n=4)
        assert until(lambda: not killed.is_running())
        server.wait()
        after = server.draw().json()
        assert before["data"][0]["manifest"]["image"] == after["data"][0]["manifest"]["image"]

    def test_told_to_stop_it_finishes_what_it_took_on(self, server):
        answers: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: answers.append(server.draw(steps=30, n=2)))
        asking.start()
        assert until(lambda: "eclipse_slots_in_use 2.0" in httpx.get(f"{server.url}/metrics").text, 30)
        server.process.send_signal(signal.SIGTERM)
        asking.join(60)
        assert [answer.status_code for answer in answers] == [200]
        assert server.process.wait(60) == 0
        assert server.status("/livez") == 0
        assert "Traceback" not in server.log.read_text()


@pytest.mark.slow
def test_a_killed_supervisor_leaves_no_worker_and_no_port(root, tmp_path):
    server = Server(root, tmp_path / "serve.log")
    try:
        server.wait("/livez")
        worker = server.worker()
        server.process.kill()
        server.process.wait()
        assert until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, 60)
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", server.port))
    finally:
        server.kill()


class TestLoading:
    @pytest.fixture
    def handlers(self):
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = [signal.getsignal(number) for number in numbers]
        yield
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)

    def test_until_it_is_done_calls_are_a_503(self):
        with listening(Mounted()) as port:
            answer = httpx.get(f"http://127.0.0.1:{port}/v1/models")
        assert answer.status_code == 503 and answer.headers["retry-after"]
        assert answer.json()["error"]["message"] == "the server is loading"

    def test_nothing_to_serve_is_told_and_not_served(self, tmp_path, caplog, handlers, monkeypatch):
        monkeypatch.delenv("ECLIPSE_RELEASES", raising=False)
        worker = Worker(Mounted(), tmp_path)
        worker.start()
        assert until(lambda: not worker.alive, 60)
        assert not worker.ready and "nothing is served" in caplog.text
        assert len(caplog.messages) == 1  # one line, no trace
        worker.stop()
