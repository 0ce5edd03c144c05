from __future__ import annotations

import socket

import pytest
from made_web import picture, serving

from eclipse.data.web.guarded import RefusedError, connect, cut_off, opener
from eclipse.data.web.outcome import reason

_GUARD = {"deadline": 1, "timeout": 1, "max_bytes": 100_000, "max_redirects": 3, "private_addresses": True}


def _refusal(url: str, **changes: object) -> str:
    with pytest.raises((OSError, ValueError)) as caught:
        opener({**_GUARD, **changes}).open(url, timeout=1).read()
    return reason(str(caught.value))


def test_what_is_let_through_and_what_not():
    with serving() as (base, server):
        assert opener(_GUARD).open(f"{base}/good/1", timeout=1).read() == picture(1)
        assert opener(_GUARD).open(f"{base}/moved/2", timeout=1).read() == picture(2)
        assert _refusal(f"{base}/huge/1") == "too_large"
        assert _refusal(f"{base}/endless/1") == "too_large"
        assert _refusal(f"{base}/drip/1", timeout=5) in ("deadline", "timeout")
        assert _refusal(f"{base}/cut/1") == "truncated"
        assert _refusal(f"{base}/loop/1") == "redirect_loop"
        assert _refusal(f"{base}/file/1") == "not_http"
        asked = server.asked.total()
        assert _refusal(f"{base}/good/1", private_addresses=False) == "private_address"
        assert server.asked.total() == asked


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://a.example/x", "data:image/png;base64,AA"])
def test_other_schemes_are_not_opened(url):
    assert _refusal(url) == "not_http"


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "10.1.2.3", "169.254.169.254", "192.168.0.1", "0.0.0.0", "::1", "fe80::1", "::ffff:127.0.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1", "::10.0.0.1", "fec0::1", "2001:0:7f00:1::1"),
    ],
)
def test_addresses_that_are_not_public(host):
    with pytest.raises(RefusedError, match="no public address"):
        connect((host, 80), 1)


def test_a_name_is_judged_by_the_address_that_is_connected_to(monkeypatch):
    there = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: there)
    with pytest.raises(RefusedError, match=r"pictures\.example is 127\.0\.0\.1"):
        connect(("pictures.example", 80), 1)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_picture_without_its_end(form):
    content = picture(1, form=form)
    assert not cut_off(content)
    assert cut_off(content[: len(content) // 2])
    assert cut_off(content[:-3])


def test_reasons_that_nobody_knows():
    assert reason("HTTP Error 503: Service Unavailable") == "http_503"
    assert reason("something new") == reason(None) == "other"
