"""Clients that leave, break off, send too slowly, or are too many."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest

LONG = {"prompt": "a star", "n": 4, "steps": 50}  # all of max_pending


def until(condition, seconds=20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def raw(address: str, data: bytes) -> socket.socket:
    where = urlsplit(address)
    connection = socket.create_connection((where.hostname, where.port), timeout=20)
    connection.sendall(data)
    return connection


def request(body: dict, path: str = "/v1/images/generations") -> bytes:
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def answer(connection: socket.socket) -> tuple[int, bytes]:
    received = b""
    connection.settimeout(20)
    while b"}}" not in received and (part := connection.recv(65536)):
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@pytest.fixture
def idle(serving):
    """The engine has nothing to do, before and after."""
    assert until(lambda: serving.engine.stats().pending == 0)
    yield serving.engine
    assert until(lambda: serving.engine.stats().pending == 0)


@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_frees_his_slots(address, idle, serving, stream):
    gone = serving.metrics.gone._value.get()
    connection = raw(address, request({**LONG, "stream": stream}))
    assert until(lambda: idle.stats().slots_in_use == 2)
    connection.close()
    started = time.monotonic()
    assert until(lambda: idle.stats().pending == 0 and idle.stats().slots_in_use == 0)
    assert time.monotonic() - started < 5  # 200 steps take much longer
    assert serving.metrics.gone._value.get() == gone + 1


def test_who_leaves_while_waiting_for_a_slot_is_forgotten(address, idle):
    first = raw(address, request({**LONG, "n": 2}))
    assert until(lambda: idle.stats().slots_in_use == 2)
    waiting = raw(address, request({**LONG, "n": 1}))
    assert until(lambda: idle.stats().queued == 1)
    waiting.close()
    assert until(lambda: idle.stats().queued == 0, 5)
    assert idle.stats().slots_in_use == 2
    first.close()


def test_a_flood_is_answered_by_pictures_or_429_with_a_time_to_wait(address, idle):
    def ask(seed: int) -> httpx.Response:
        body = {"prompt": "a star", "seed": seed, "steps": 10, "n": 2}
        return httpx.post(f"{address}/v1/images/generations", json=body, timeout=120)

    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(ask, range(24)))
    counted = Counter(each.status_code for each in answers)
    assert set(counted) == {200, 429} and counted[200] >= 200 // 20
    for refused in (each for each in answers if each.status_code == 429):
        assert int(refused.headers["Retry-After"]) >= 1
        error = refused.json()["error"]
        assert (error["code"], error["type"]) == ("rate_limit_exceeded", "rate_limit_error")


def test_a_request_that_takes_too_long_is_a_504(address, idle, serving, monkeypatch):
    monkeypatch.setattr(serving, "params", serving.params.model_copy(update={"request_seconds": 0.5}))
    told = httpx.post(f"{address}/v1/images/generations", json=LONG, timeout=60)
    assert told.status_code == 504 and told.json()["error"]["code"] == "timeout"
    assert told.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", 400),
        (b"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 400),
        (b"GET /%00%ff/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET http://example.com/ HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    ],
)
def test_raw_nonsense(address, data, status):
    assert answer(raw(address, data))[0] == status


def test_a_body_without_a_length_is_counted_too(address):
    head = b"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    connection = raw(address, head + b"Transfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"

    def send() -> None:
        try:
            for _ in range(64):
                connection.sendall(chunk)
        except OSError:
            pass  # refused on the way, as it should be

    sender = threading.Thread(target=send)
    sender.start()
    status, body = answer(connection)
    assert status == 413 and b"request_too_large" in body
    connection.close()
    sender.join()


def test_half_a_request_disturbs_nobody(address, client):
    half = request({"prompt": "a star"})[:-4]
    connections = [raw(address, half) for _ in range(20)]
    assert httpx.get(f"{address}/v1/models", timeout=10).status_code == 200
    for connection in connections:
        connection.close()
    assert httpx.get(f"{address}/v1/models", timeout=10).status_code == 200
