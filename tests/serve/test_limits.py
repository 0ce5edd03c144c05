"""Bodies are bounded while they arrive, whatever their header says."""

from __future__ import annotations

import asyncio
import json

import pytest

from eclipse.serve.limits import HELD, BodyLimit


async def reads_all(scope, receive, send):
    """An application that answers with how much it read."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(len(body)).encode()})


def call(app, parts, headers=(), method="POST", delay=0.0):
    """Status, headers and body of the answer; what the application raises is raised."""
    waiting = [{"type": "http.request", "body": p, "more_body": i < len(parts) - 1} for i, p in enumerate(parts)]
    sent = []

    async def receive():
        await asyncio.sleep(delay)
        return waiting.pop(0)

    async def send(message):
        sent.append(message)

    asyncio.run(app({"type": "http", "method": method, "path": "/v1/x", "headers": list(headers)}, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def limit(max_bytes=10, seconds=5.0):
    return BodyLimit(reads_all, max_bytes, seconds)


def test_a_body_of_the_largest_size_passes():
    assert call(limit(), [b"12345", b"67890"])[2] == b"10"


def test_a_length_that_is_too_large_is_refused_unread():
    status, headers, body = call(limit(), [b""], [(b"content-length", b"11")])
    assert status == 413 and headers[b"connection"] == b"close"
    assert json.loads(body)["error"]["code"] == "request_too_large"


@pytest.mark.parametrize("said", [[], [(b"content-length", b"3")], [(b"content-length", b"-1")]])
def test_what_really_arrives_counts(said):
    with pytest.raises(Exception, match="larger than") as raised:
        call(limit(), [b"12345", b"678901"], said)
    assert raised.value.status_code == 413


def test_a_body_that_takes_too_long_is_given_up():
    with pytest.raises(Exception, match="did not arrive in time") as raised:
        call(limit(seconds=0.05), [b"1"] * 10, delay=0.02)
    assert raised.value.status_code == 408


def test_all_bodies_together_are_bounded_and_given_back():
    app = limit()
    for _ in range(2 * HELD):  # one after the other there is always room
        call(app, [b"x" * 10])
    assert app.held == 0
    app.held = HELD * 10
    with pytest.raises(Exception, match="too many large requests") as raised:
        call(app, [b"x"])
    assert raised.value.status_code == 429 and raised.value.headers["Retry-After"]
    assert app.held == HELD * 10


def test_pages_of_other_sites_are_refused():
    assert call(limit(), [b""], [(b"sec-fetch-site", b"cross-site")])[0] == 403
    assert call(limit(), [b""], [(b"sec-fetch-site", b"same-origin")])[0] == 200


@pytest.mark.parametrize(
    ("headers", "seen"),
    [
        ([(b"content-type", b"application/x-www-form-urlencoded")], b"application/json"),
        ([(b"content-type", b"text/plain")], b"text/plain"),
        (
            [(b"content-type", b"application/x-www-form-urlencoded"), (b"origin", b"http://evil")],
            b"application/x-www-form-urlencoded",
        ),
    ],
)
def test_what_curl_sends_is_taken_for_json_and_what_a_page_sends_is_not(headers, seen):
    async def tells_type(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": dict(scope["headers"])[b"content-type"]})

    assert call(BodyLimit(tells_type, 10, 5), [b""], headers)[2] == seen
