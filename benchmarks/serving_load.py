"""How soon ``bentoml serve`` is ready, and what a crowd of clients gets of it.

    python benchmarks/serving_load.py                     # in a folder that can be served
    python benchmarks/serving_load.py --clients 200 --seconds 60 --starts 3

Starts the server on a free port ``--starts`` times and takes the time from the command to the first 200 of ``/readyz``.
On the last one every client asks for one picture after the other, with its own prompt and seed, for ``--seconds``;
after a 429 it waits as long as ``Retry-After`` says. Each answer has to be a picture that can be unpacked, with its
manifest, or a 429 with Retry-After; anything else counts as ``other``. Prints a table and a JSON line; exits with 1
when there is any ``other``, when work is left over afterwards, or when a start took more than ``--ready`` seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import io
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx
import psutil
from PIL import Image

TARGET = "eclipse.serve.service:EclipseService"
REPOSITORY = Path(__file__).resolve().parents[1]
_COLOURS = ("red", "blue", "green", "yellow", "purple", "orange")
_SHAPES = ("star", "heart", "circle", "square", "triangle", "ring")


@dataclass
class Load:
    """What all clients got. ``waits`` are seconds to a picture, ``refusals`` seconds to a 429, ``other`` what else."""

    waits: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    retry_after: list[float] = field(default_factory=list)
    other: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Found:
    """The figures. Seconds; pictures a second; MB of 10⁶ bytes at the worker's worst."""

    ready: list[float]
    clients: int
    seconds: float
    pictures: int
    refused: int
    other: dict[str, int]
    rate: float
    wait_p50: float
    wait_p95: float
    wait_p99: float
    refusal_p95: float
    retry_after_p50: float
    peak_mb: float
    left_over: float


@contextlib.contextmanager
def server(root: Path, log: Path) -> Iterator[tuple[str, float, psutil.Process]]:
    """A server in ``root``: its address, the seconds until it was ready, and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "BENTOML_HOME": str(log.parent / "bentoml")}
    command = [sys.executable, "-m", "bentoml", "serve", TARGET, "--port", str(port)]
    with log.open("ab") as out:
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        while not _ready(f"http://127.0.0.1:{port}"):
            if process.poll() is not None or time.perf_counter() - began > 300:
                raise SystemExit(f"the server did not get ready:\n{log.read_text()[-4000:]}")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}", time.perf_counter() - began, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def _ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


async def client(http: httpx.AsyncClient, name: int, end: float, options: argparse.Namespace, load: Load) -> None:
    """Ask for one picture after the other until ``end``; the last one is waited for."""
    number = 0
    while time.perf_counter() < end:
        colour, shape = _COLOURS[name % 6], _SHAPES[(name // 6 + number) % 6]
        body = {"prompt": f"a {colour} {shape}", "seed": 1000 * name + number, "steps": options.steps}
        began = time.perf_counter()
        try:
            answer = await http.post("/v1/images/generations", json=body)
        except httpx.HTTPError as error:
            load.other[type(error).__name__] += 1
            continue
        seconds = time.perf_counter() - began
        if answer.status_code == 429 and "Retry-After" in answer.headers:
            load.refusals.append(seconds)
            load.retry_after.append(float(answer.headers["Retry-After"]))
            await asyncio.sleep(min(load.retry_after[-1], max(0.0, end - time.perf_counter())))
        elif answer.status_code == 200 and _is_picture(answer, body["seed"]):
            load.waits.append(seconds)
            number += 1
        else:
            load.other[str(answer.status_code)] += 1


def _is_picture(answer: httpx.Response, seed: object) -> bool:
    item = answer.json()["data"][0]
    image = Image.open(io.BytesIO(base64.b64decode(item["b64_json"])))
    image.load()
    return bool(item["manifest"]["request"]["seed"] == seed and image.width == item["manifest"]["image"]["width"])


async def crowd(address: str, options: argparse.Namespace) -> tuple[Load, float]:
    """All clients at once; what they got, and how long it took until the last had its answer."""
    load, began = Load(), time.perf_counter()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=600) as http:
        end = began + options.seconds
        await asyncio.gather(*(client(http, name, end, options, load) for name in range(options.clients)))
    return load, time.perf_counter() - began


def measure(options: argparse.Namespace) -> Found:
    """All figures."""
    with tempfile.TemporaryDirectory() as folder:
        ready, log = [], Path(folder) / "serve.log"
        for _ in range(options.starts - 1):
            with server(options.root, log) as (_, seconds, _):
                ready.append(seconds)
        with server(options.root, log) as (address, seconds, process):
            ready.append(seconds)
            load, took = asyncio.run(crowd(address, options))
            peak = max(_peak_mb(child) for child in process.children(recursive=True))
            left = _left_over(address)
    at = statistics.quantiles(load.waits, n=100) if len(load.waits) > 1 else [float("nan")] * 99
    refused_at = statistics.quantiles(load.refusals, n=100) if len(load.refusals) > 1 else [0.0] * 99
    return Found(
        ready=[round(seconds, 1) for seconds in ready],
        clients=options.clients,
        seconds=round(took, 1),
        pictures=len(load.waits),
        refused=len(load.refusals),
        other=dict(load.other),
        rate=round(len(load.waits) / took, 2),
        wait_p50=round(at[49], 2),
        wait_p95=round(at[94], 2),
        wait_p99=round(at[98], 2),
        refusal_p95=round(refused_at[94], 3),
        retry_after_p50=round(statistics.median(load.retry_after or [0.0]), 1),
        peak_mb=round(peak),
        left_over=left,
    )


def _peak_mb(process: psutil.Process) -> float:
    """The most memory that it ever held."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def _left_over(address: str) -> float:
    lines = httpx.get(f"{address}/metrics").text.splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("eclipse_pending_steps "))


def main() -> int:
    """Measure and print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--ready", type=float, default=20.0)
    options = parser.parse_args()
    found = measure(options)
    for name, value in asdict(found).items():
        print(f"{name:16} {value}")
    print(json.dumps(asdict(found), sort_keys=True))
    return int(bool(found.other) or found.left_over > 0 or max(found.ready) > options.ready)


if __name__ == "__main__":
    sys.exit(main())
