"""Stage ``takedown``: what of a dataset, a store or fetched pictures must go by the takedown list as it is now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from eclipse.config.params import Params
from eclipse.data.manifest import load_manifest
from eclipse.data.takedown import DEFAULT, audit, load_takedown
from eclipse.embeddings.header import read_header
from eclipse.errors import ConfigError, DataError
from eclipse.files import write_json


def run(params: Params, *, dataset: Path, store: Path | None = None, out: Path) -> dict[str, Any]:
    """List the records of ``dataset``, and of ``store`` that was made of it, that are on data.web.takedown.

    Where that is not set, conf/takedown.txt is the list.

    Writes the list to ``out`` and returns it. Raises :class:`DataError`, so the command's status is 2, if there is one,
    or if the store was made of another dataset, of which nothing can be said.
    """
    path = params.data.web.takedown
    if path is None:
        if not DEFAULT.is_file():
            raise ConfigError(
                f"data.web.takedown: is not set, and there is no {DEFAULT}; give the list to audit against"
            )
        path = DEFAULT
    takedown = load_takedown(path)
    manifest = load_manifest(dataset)
    found = audit(dataset, takedown)
    listed: dict[str, Any] = {"takedown": takedown.digest, "honoured": manifest.takedown == takedown.digest}
    listed["dataset"] = [vars(one) for one in found]
    if store is not None:
        listed["store"] = _in_store(store, manifest.digest, {(one.split, one.id) for one in found})
    write_json(out, listed)
    if found:
        raise DataError(
            f"{dataset}: {len(found)} records must go, see {out}; run the dataset stage again with "
            f"data.web.takedown={path}, and all that follows"
        )
    return listed


def _in_store(store: Path, digest: str, listed: set[tuple[str, str]]) -> list[dict[str, str]]:
    """The listed records whose embeddings are in the store."""
    header = read_header(store)
    if header.dataset_digest != digest:
        raise DataError(f"{store}: was made of another dataset; run the embed stage again, or give its own --dataset")
    found: list[dict[str, str]] = []
    for name, split in header.splits.items():
        for shard in split.shards:
            ids = pq.read_table(store / shard.table.file, columns=["id"])["id"].to_pylist()
            found.extend({"shard": shard.file, "id": id} for id in ids if (name, id) in listed)
    return found
