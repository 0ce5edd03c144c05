"""A web server on loopback with the pictures that the web has: good ones, and every kind of bad one."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
COMMAND = ROOT / ".venv-web/bin/img2dataset"


def picture(seed: int, size: tuple[int, int] = (96, 64), form: str = "JPEG") -> bytes:
    """A smooth random picture; other seeds give pictures that no hash confuses."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse, "RGB").resize(size, Image.Resampling.BICUBIC).save(buffer, form)
    return buffer.getvalue()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: Counter[str] = Counter()
        self.delay = 0.0


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked[self.path] += 1
        kind, _, rest = self.path.strip("/").partition("/")
        with suppress(BrokenPipeError, ConnectionResetError):  # the client has had enough
            getattr(self, f"_{kind}", self._missing)(rest)

    def _send(self, content: bytes, *, length: int | None = None, kind: str = "image/jpeg") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content)

    def _good(self, rest: str) -> None:
        time.sleep(self.server.delay)
        content = picture(int(rest.partition(".")[0]))
        self._send(content, length=len(content))

    def _png(self, rest: str) -> None:
        content = picture(int(rest), form="PNG")
        self._send(content, length=len(content))

    def _small(self, rest: str) -> None:
        self._send(picture(int(rest), (20, 20)))

    def _slow(self, rest: str) -> None:
        time.sleep(30)

    def _drip(self, rest: str) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(100):
            self.wfile.write(b"\xff")
            time.sleep(0.3)

    def _short(self, rest: str) -> None:
        content = picture(int(rest))
        self._send(content[: len(content) // 2], length=len(content))

    def _cut(self, rest: str) -> None:
        content = picture(int(rest))
        self._send(content[: len(content) // 2])

    def _loop(self, rest: str) -> None:
        self._to(f"/loop/{rest}")

    def _far(self, rest: str) -> None:
        self._to(f"/far/{int(rest) + 1}")

    def _moved(self, rest: str) -> None:
        self._to(f"/good/{rest}")

    def _file(self, rest: str) -> None:
        self._to("file:///etc/hostname")

    def _to(self, where: str) -> None:
        self.send_response(302)
        self.send_header("Location", where)
        self.end_headers()

    def _huge(self, rest: str) -> None:
        self._send(b"\xff\xd8\xff", length=1 << 40)

    def _endless(self, rest: str) -> None:
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(bytes(1 << 16))

    def _page(self, rest: str) -> None:
        self._send(b"<html>this picture has moved</html>", kind="text/html")

    def _unwanted(self, rest: str) -> None:
        self.send_response(200)
        self.send_header("X-Robots-Tag", "noai")
        self.end_headers()
        self.wfile.write(picture(int(rest)))

    def _missing(self, rest: str) -> None:
        self.send_error(404)


@contextmanager
def serving() -> Iterator[tuple[str, _Server]]:
    """The server's address, and the server, which counts in ``asked`` how often each path was asked for."""
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server
    finally:
        server.shutdown()
        server.server_close()


def nobody_listens() -> str:
    """An address on loopback at which connections are refused."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/good/1"
