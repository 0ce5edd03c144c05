"""Runs img2dataset behind a guard. This file is executed by img2dataset's own interpreter, not by ours.

The environment names a JSON file: ``options`` are the arguments of ``img2dataset.download``, ``guard`` the limits, and
``lock`` is a file on which every process holds a shared lock, as a sign that it runs. img2dataset
opens URLs with urllib, so an opener installed there holds for it, unchanged: http and https only, no address of a
private network or of this machine unless allowed, so many redirects, so many seconds and bytes, and nothing that was
cut off. img2dataset spawns its processes, and each reads this file again; so the guard is installed on import.
"""

from __future__ import annotations

import fcntl
import http.client
import io
import ipaddress
import json
import os
import socket
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

JOB = "ECLIPSE_INGEST_JOB"
PARENT = "ECLIPSE_INGEST_PARENT"
_CARRIERS = tuple(  # IPv6 that leads to an IPv4 address inside it, or to a site's own: translated, mapped, 6to4, Teredo
    ipaddress.ip_network(network)
    for network in ("64:ff9b::/96", "64:ff9b:1::/48", "::/96", "::ffff:0:0/96", "2002::/16", "2001::/32", "fec0::/10")
)


class RefusedError(OSError):
    """The guard does not let this through; its message is what img2dataset notes of the URL."""


class Timed(io.RawIOBase):
    """A connection's bytes, until the deadline is past or too many have come."""

    def __init__(self, raw: Any, connection: Any, guard: dict[str, Any]) -> None:
        self._raw, self._connection, self._guard = raw, connection, guard
        self._end = time.monotonic() + guard["deadline"]
        self._left = guard["max_bytes"] + (1 << 20)  # and its headers

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` with what comes; :class:`RefusedError` when time or bytes have run out."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise RefusedError(f"guard: deadline of {self._guard['deadline']} s is past")
        self._connection.settimeout(min(left, self._guard["timeout"]))
        count = self._raw.readinto(buffer)
        self._left -= count or 0
        if self._left < 0:
            raise RefusedError(f"guard: more than {self._guard['max_bytes']} bytes")
        return count or 0

    def close(self) -> None:
        """Close what is beneath."""
        self._raw.close()
        super().close()


def response_class(guard: dict[str, Any]) -> type[http.client.HTTPResponse]:
    """Responses that keep to ``guard``."""

    class Response(http.client.HTTPResponse):
        def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(sock, *args, **kwargs)
            self.fp = io.BufferedReader(Timed(self.fp.detach(), sock, guard))

        def begin(self) -> None:
            super().begin()
            if self.length is not None and self.length > guard["max_bytes"]:
                raise RefusedError(f"guard: more than {guard['max_bytes']} bytes")

        def read(self, amt: int | None = None) -> bytes:
            content = super().read(amt)
            if amt is None:
                if len(content) > guard["max_bytes"]:
                    raise RefusedError(f"guard: more than {guard['max_bytes']} bytes")
                if cut_off(content):
                    raise RefusedError("guard: the picture is cut off")
            return content

    return Response


def cut_off(content: bytes) -> bool:
    """Whether a JPEG, PNG or WebP file lacks its end: img2dataset's decoder would fill the rest with grey."""
    if content.startswith(b"\xff\xd8\xff"):  # within a scan no marker occurs by chance
        return content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda")
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND\xaeB`\x82" not in content[-(1 << 16) :]
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return len(content) < int.from_bytes(content[4:8], "little") + 8
    return False


def connect(address: tuple[str, int], timeout: Any, source: Any = None) -> socket.socket:
    """Connect to a public address; the one that was checked is the one connected to, whatever the name says next."""
    error: OSError = RefusedError(f"guard: {address[0]} has no address")
    for *_, where in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
        ip = ipaddress.ip_address(str(where[0]).partition("%")[0])
        if not ip.is_global or ip.is_multicast or any(ip in network for network in _CARRIERS):
            raise RefusedError(f"guard: {address[0]} is {ip}, which is no public address")
        try:
            return socket.create_connection((str(where[0]), address[1]), timeout, source)
        except OSError as failed:
            error = failed
    raise error


def opener(guard: dict[str, Any]) -> urllib.request.OpenerDirector:
    """What opens URLs within ``guard``: http and https, and no other scheme."""
    responses = response_class(guard)

    def prepared(connection: Any) -> Any:
        def make(*args: Any, **kwargs: Any) -> Any:
            made = connection(*args, **kwargs)
            made.response_class = responses
            if not guard["private_addresses"]:
                made._create_connection = connect
            return made

        return make

    class Http(urllib.request.HTTPHandler):
        def http_open(self, req: Any) -> Any:
            return self.do_open(prepared(http.client.HTTPConnection), req)

    class Https(urllib.request.HTTPSHandler):
        def https_open(self, req: Any) -> Any:
            return self.do_open(prepared(http.client.HTTPSConnection), req)

    class Redirect(urllib.request.HTTPRedirectHandler):
        max_redirections = guard["max_redirects"]
        max_repeats = max(guard["max_redirects"], 1)

        def redirect_request(self, req: Any, *args: Any) -> Any:
            if not str(args[-1]).lower().startswith(("http://", "https://")):
                raise RefusedError(f"guard: redirect to {args[-1][:200]}")
            return super().redirect_request(req, *args)

    director = urllib.request.OpenerDirector()
    handlers: list[Any] = [Http(), Https(), Redirect(), urllib.request.HTTPErrorProcessor()]
    handlers += [urllib.request.HTTPDefaultErrorHandler(), urllib.request.UnknownHandler()]
    if guard["private_addresses"]:  # a proxy connects in our place, so its target cannot be checked
        handlers.append(urllib.request.ProxyHandler())
    for handler in handlers:
        director.add_handler(handler)
    return director


def end_with_parent(parent: int) -> None:
    """End this process when ``parent``, which began it, ends: two runs must never write the same shard."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Run img2dataset with the options of the job."""
    import img2dataset  # type: ignore[import-not-found]  # of the environment that executes this

    img2dataset.download(**job["options"])


if JOB in os.environ:
    job = json.loads(Path(os.environ[JOB]).read_text())
    end_with_parent(int(os.environ[PARENT]) if __name__ == "__main__" else os.getppid())
    lock = Path(job["lock"]).open("ab")  # noqa: SIM115 - held until this process ends
    fcntl.flock(lock, fcntl.LOCK_SH)
    urllib.request.install_opener(opener(job["guard"]))

if __name__ == "__main__":
    main()
