"""Stage ``dataset``: the mini world or a person's own captioned images, as tar shards with a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eclipse.config.params import Params
from eclipse.data.ingest import ingest
from eclipse.data.manifest import Manifest
from eclipse.data.web.build import SUMMARY, build
from eclipse.files import read_json, write_json
from eclipse.world.dataset import write_world


def run(params: Params, *, out: Path, metrics: Path) -> dict[str, Any]:
    """Write the dataset folder ``out`` and its summary ``metrics``; returns the summary."""
    write = {"world": write_world, "img2dataset": build}.get(params.data.source, ingest)
    manifest = write(params.data, out)
    summary = summarise(manifest)
    if (out / SUMMARY).is_file():
        summary["web"] = read_json(out / SUMMARY)
    write_json(metrics, summary)
    return summary


def summarise(manifest: Manifest) -> dict[str, Any]:
    """Counts by split, what was held out and dropped, size in bytes and the manifest's digest."""
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    return {
        "source": manifest.source,
        "digest": manifest.digest,
        "records": {name: split.count for name, split in manifest.splits.items()},
        "shards": len(shards),
        "bytes": sum(shard.bytes for shard in shards),
        "held_out": len(manifest.held_out),
        "dropped": manifest.dropped,
    }
