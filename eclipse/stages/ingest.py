"""Stage ``ingest``: pictures of the web from a published list of URLs, by img2dataset."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from eclipse.config.data import WebParams
from eclipse.config.params import Params
from eclipse.data.takedown import load_takedown
from eclipse.data.web.choose import choose
from eclipse.data.web.fetch import LIST, SHARDS, alone, fetch, find_command
from eclipse.data.web.lists import list_files
from eclipse.data.web.outcome import outcomes
from eclipse.data.web.scrub import scrub
from eclipse.data.web.subset import Subset, load_subset, merged
from eclipse.errors import DataError
from eclipse.files import atomic_folder, read_json, write_json

SUMMARY, _CHOSEN = "ingest.json", "chosen.json"


def run(
    params: Params,
    *,
    from_: Path,
    subset: str,
    out: Path,
    img2dataset: str | None = None,
    private_addresses: bool = False,
) -> dict[str, Any]:
    """Fetch what a subset takes of the URL list ``from``, a file or a folder of them, to ``out``.

    ``subset`` is a name in conf/subset or the path of such a file; what it does not set, data.web says. Writes
    out/list (the rows that are taken, each with id, licence and source URL), out/shards (what img2dataset made of
    them) and out/ingest.json (counts by outcome, reason and licence, and what was left out); returns the latter.

    Killed and run again, it goes on after the last finished shard; where all are finished it fetches nothing. What has
    come onto data.web.takedown since is removed from out. ``img2dataset`` is its command, of a virtual environment
    of its own (make web). ``private_addresses`` allows URLs that lead to this machine or a private network.
    """
    taken = load_subset(subset)
    web = merged(params.data.web, taken.web)
    python = find_command(img2dataset)
    takedown = load_takedown(web.takedown)
    out.mkdir(parents=True, exist_ok=True)
    with alone(out):
        _choose_once(from_, taken, web, params.data.seed, out)
        removed = scrub(out, takedown)
        fetch(python, out, taken, web, private_addresses=private_addresses)
        removed += scrub(out, takedown)  # by sums of bytes, which are known only now
        summary = {
            "subset": subset,
            "list": read_json(out / LIST / _CHOSEN)["summary"],
            "fetched": outcomes(out / SHARDS),
            "takedown": {"digest": takedown.digest, "removed": removed},
        }
        write_json(out / SUMMARY, summary)
    return summary


def _choose_once(path: Path, subset: Subset, web: WebParams, seed: int, out: Path) -> None:
    """Write ``out``/list, or keep the one that is there if it was chosen of the same list in the same way."""
    identity = {"list": [[file.name, file.stat().st_size] for file in list_files(path, subset.list)], "seed": seed}
    identity["form"] = subset.list.model_dump(mode="json")
    identity["web"] = web.model_dump(mode="json", exclude={"benchmarks", "benchmark_distance", "takedown", "workers"})
    identity["kept"] = subset.fetch.model_dump(mode="json", include={"shard_size", "image_size", "quality"})
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    if (out / LIST / _CHOSEN).is_file():
        if read_json(out / LIST / _CHOSEN)["identity"] != digest:
            raise DataError(f"{out}: was made of another list, subset or seed; give another --out, or delete this one")
        return
    with atomic_folder(out / LIST) as folder:
        takedown = load_takedown(web.takedown)
        size = subset.fetch.shard_size
        chosen = choose(path, subset.list, web, takedown, seed=seed, shard_size=size, out=folder)
        write_json(folder / _CHOSEN, {"identity": digest, "summary": vars(chosen)})
