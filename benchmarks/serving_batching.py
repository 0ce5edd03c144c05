"""Throughput of the engine with its slots against one slot, at 8 concurrent clients in one process.

    python benchmarks/serving_batching.py --prior artifacts/selected --frozen artifacts/frozen

Each client asks for one picture after the other, each with its own prompt and seed, as ``eclipse.serve`` does for a
request of one picture. All engines share one decoder and run in turns: a repetition measures every number of slots,
and the median of its ratios counts, for other load on the machine comes and goes. ``--exact`` is that of the service's
parameters: all rows are always computed. Prints a table and a JSON line; exits with 1 when the ratio of ``--slots``
against 1 is below ``--require``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import torch

from eclipse.config.serve import ServeParams
from eclipse.models.checkpoint import load_prior, prior_hash
from eclipse.models.clip import FrozenClip
from eclipse.models.decoder import load_decoder
from eclipse.serve.engine import Engine, LoadedPrior
from eclipse.serve.types import Drawing, Drawn, Job, PriorName, Prompt, Wanted

_WORDS = ("red star", "blue heart", "green circle", "yellow square", "purple triangle", "orange ring")


async def client(engine: Engine, name: int, drawing: Drawing, pictures: int) -> list[float]:
    """Ask for ``pictures`` one after the other; the seconds that each took."""
    seconds = []
    for number in range(pictures):
        prompt = f"a {_WORDS[name % len(_WORDS)]} left of a {_WORDS[(name + number + 1) % len(_WORDS)]}"
        began = time.perf_counter()
        job = Job("prior", (Wanted(Prompt(prompt), 1000 * name + number),), drawing)
        events = [event async for event in engine.submit(job)]
        assert any(isinstance(event, Drawn) and event.finite for event in events)
        seconds.append(time.perf_counter() - began)
    return seconds


@dataclass(frozen=True)
class Load:
    """Pictures a second of all clients together, CPU seconds of a picture, median wall seconds of a request."""

    rate: float
    cpu: float
    wait: float


async def load(engine: Engine, drawing: Drawing, options: argparse.Namespace) -> Load:
    """All clients at once."""
    began, cpu = time.perf_counter(), time.process_time()
    found = await asyncio.gather(*(client(engine, name, drawing, options.pictures) for name in range(options.clients)))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    waits = [wait for one in found for wait in one]
    return Load(len(waits) / seconds, cpu / len(waits), statistics.median(waits))


def measure(options: argparse.Namespace) -> dict[int, list[Load]]:
    """Number of slots → what each repetition found."""
    clip = FrozenClip.load(options.frozen / "clip")
    decoder = load_decoder(options.frozen / "decoder", device=clip.device)
    name = PriorName("prior", "eclipse", prior_hash(options.prior))
    priors = {"prior": LoadedPrior(name, load_prior(options.prior, device=clip.device))}
    size = decoder.image_size
    drawing = Drawing(options.steps, options.scheduler, options.guidance, size, size)
    counts = sorted({1, options.slots, *options.also})
    found: dict[int, list[Load]] = {count: [] for count in counts}
    for repetition in range(options.repetitions):
        for count in counts:
            engine = Engine(clip, decoder, priors, ServeParams(slots=count, exact=options.exact))
            engine.start()
            found[count].append(asyncio.run(load(engine, drawing, options)))
            engine.close(0)
        shown = ", ".join(f"{count} slots {found[count][-1].rate:.2f}" for count in counts)
        print(f"repetition {repetition + 1}, pictures a second: {shown}", flush=True)
    return found


def middle(runs: Sequence[Load]) -> Load:
    """The median of each figure."""
    columns = zip(*(astuple(run) for run in runs), strict=True)
    return Load(*(statistics.median(column) for column in columns))


def main() -> int:
    """Measure, print, and say by the exit code whether the requirement holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", type=Path, default=Path("artifacts/selected"), help="folder of the prior")
    parser.add_argument("--frozen", type=Path, default=Path("artifacts/frozen"), help="folder with clip and decoder")
    parser.add_argument("--clients", type=int, default=8, help="concurrent clients (default 8)")
    parser.add_argument("--pictures", type=int, default=4, help="pictures of each client in a repetition (default 4)")
    parser.add_argument("--slots", type=int, default=4, help="slots to compare with one (default 4)")
    parser.add_argument("--also", type=int, nargs="*", default=[2, 8], help="further numbers of slots to show")
    parser.add_argument("--steps", type=int, default=15, help="decoder steps (default 15)")
    parser.add_argument("--scheduler", default="dpm++", help="sampler (default dpm++)")
    parser.add_argument("--guidance", type=float, default=3.0, help="decoder guidance (default 3)")
    parser.add_argument("--exact", action=argparse.BooleanOptionalAction, default=True, help="always compute all rows")
    parser.add_argument("--repetitions", type=int, default=5, help="repetitions of all (default 5)")
    parser.add_argument("--require", type=float, default=1.5, help="least ratio (default 1.5)")
    options = parser.parse_args()
    found = measure(options)
    ratios = {
        count: statistics.median(run.rate / one.rate for run, one in zip(runs, found[1], strict=True))
        for count, runs in found.items()
    }
    medians = {count: middle(runs) for count, runs in found.items()}
    print("slots  pictures/s  ratio  CPU s/picture  seconds/request")
    for count, run in medians.items():
        print(f"{count:5d}  {run.rate:10.2f}  {ratios[count]:5.2f}  {run.cpu:13.3f}  {run.wait:15.2f}")
    ratio = ratios[options.slots]
    figures = {str(count): {**asdict(run), "ratio": ratios[count]} for count, run in medians.items()}
    record = {"threads": torch.get_num_threads(), "slots": figures, "ratio": ratio, "required": options.require}
    print(json.dumps(record))
    return 0 if ratio >= options.require else 1


if __name__ == "__main__":
    sys.exit(main())
