"""``estimate``: what embedding a dataset will take, before it starts."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from eclipse.config.params import Params
from eclipse.data.manifest import load_manifest
from eclipse.embeddings.ahead import worker_count
from eclipse.embeddings.estimate import Sample, Span, measure, pace, per_record, stored_bytes
from eclipse.embeddings.pace import spelt
from eclipse.embeddings.reading import open_reader
from eclipse.errors import ConfigError
from eclipse.files import write_json
from eclipse.models.clip import FrozenClip

_DOES = {
    "read": "verify, parse and tokenise",
    "prepare": "decode and fit pictures",
    "encode": "encode",
    "write": "quantise and write",
}


def run(
    params: Params,
    *,
    dataset: Path,
    frozen: Path,
    metrics: Path | None = None,
    records: int = 256,
    samples: int = 3,
    gpus: int = 1,
    price_per_hour: float | None = None,
) -> dict[str, Any]:
    """Say how long ``embed`` will take for ``dataset`` with the CLIP in ``frozen``/clip, how many bytes, and why.

    ``samples`` shards, spread over the dataset, give ``records`` each; they are embedded as ``embed`` would, after one
    unmeasured round. Ranges are what the samples say, from the fastest to the slowest.

    ``gpus`` is for how many encoders like this one the time is told; they share nothing, so each takes its part, if
    each has as many cores for its pictures as this one. ``price-per-hour`` of one of them, in any currency, gives the
    cost. Writes everything to ``metrics``, if given.
    """
    _check(records, samples, gpus, price_per_hour)
    manifest, store = load_manifest(dataset), params.store
    clip = FrozenClip.load(frozen / "clip", precision=store.precision, compile=store.compile)
    reader = open_reader(clip, dataset, manifest, store.batch_size)
    found = measure(reader, store, dataset, manifest, records=records, samples=samples)
    workers = worker_count(store.workers, gpu=clip.device.type == "cuda")
    result = _told(found, sum(split.count for split in manifest.splits.values()), workers, gpus)
    size = stored_bytes(found, store.tokens, clip.state_dim)
    result |= {
        "device": torch.cuda.get_device_name(clip.device) if clip.device.type == "cuda" else "cpu",
        "encoder": clip.name,
        "precision": store.precision,
        "compile": store.compile,
        "cost": None if price_per_hour is None else _plain(Span(**result["hours"]).times(gpus * price_per_hour)),
        "bytes": {kind: _plain(span.times(result["records"])) for kind, span in size.items()},
    }
    print(_table(result, store.tokens), end="")
    if metrics is not None:
        write_json(metrics, result)
    return result


def _check(records: int, samples: int, gpus: int, price: float | None) -> None:
    for name, value in (("records", records), ("samples", samples), ("gpus", gpus)):
        if value < 1:
            raise ConfigError(f"{name}={value}: must be at least 1")
    if price is not None and not 0 <= price < float("inf"):
        raise ConfigError(f"price-per-hour={price}: must be 0 or more")


def _told(samples: list[Sample], records: int, workers: int, gpus: int) -> dict[str, Any]:
    """The figures that follow from the samples and the number of records."""
    steps = per_record(samples, workers)
    seconds, slowest = pace(steps, workers)
    flops = sum(sample.flops for sample in samples) / sum(sample.count for sample in samples)
    tokens = Span.of([sample.tokens / sample.count for sample in samples])
    return {
        "records": records,
        "sampled": sum(sample.count for sample in samples),
        "tokens": _plain(tokens.times(records)),
        "seconds_per_record": {step: _plain(span) for step, span in steps.items()},
        "workers": workers,
        "cores": len(os.sched_getaffinity(0)),
        "bottleneck": slowest,
        "records_per_second": _plain(Span(1 / seconds.median, 1 / seconds.high, 1 / seconds.low)),
        "gpus": gpus,
        "hours": _plain(seconds.times(records / gpus / 3600)),
        "gflop_per_record": flops / 1e9,
        "tflops": flops / steps["encode"].median / 1e12,
    }


def _plain(span: Span) -> dict[str, float]:
    return asdict(span)


def _table(told: dict[str, Any], tokens: str) -> str:
    hours, rate, workers = told["hours"], told["records_per_second"], told["workers"]
    lines = [
        f"{told['records']:,} records with {told['encoder']} in {told['precision']}"
        f"{', compiled' if told['compile'] else ''}, on {told['device']}; {told['sampled']} of them measured",
        "",
        f"{'for one record':<32}{'ms':>10}{'from':>10}{'to':>10}",
    ]
    for step, span in told["seconds_per_record"].items():
        name = _DOES[step] + (f" ({workers} processes)" if step == "prepare" and workers else "")
        figures = "".join(f"{1000 * span[end]:>10.3f}" for end in ("median", "low", "high"))
        lines.append(f"{name:<32}{figures}{'  ← longest' if step == told['bottleneck'] else ''}")
    how = "beside one another" if workers else "one after another (store.workers=0)"
    lines += [
        "",
        f"the four run    {how}: {rate['median']:,.1f} records/s ({rate['low']:,.1f} to {rate['high']:,.1f})",
        f"encoder         {told['gflop_per_record']:,.2f} GFLOP a record, {told['tflops']:,.3f} TFLOP/s",
        f"tokens          {told['tokens']['median']:,.0f} without BOS",
    ]
    for kind, span in told["bytes"].items():
        chosen = " (as configured)" if kind == tokens else ""
        lines.append(f"store, {kind:<9}{span['median'] / 1e9:,.3f} GB{chosen}")
    low, median, high = (spelt(3600 * hours[end]) for end in ("low", "median", "high"))
    lines.append(f"time            {median} with {told['gpus']} × this device ({low} to {high})")
    if told["cost"] is not None:
        cost = told["cost"]
        lines.append(f"cost            {cost['median']:,.2f} ({cost['low']:,.2f} to {cost['high']:,.2f})")
    return "\n".join(lines) + "\n"
