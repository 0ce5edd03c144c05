"""Stage ``evaluate``: one trained point (or a reference point) on all four evaluation splits."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from eclipse.config.params import Params
from eclipse.data.records import SPLITS, TRAIN
from eclipse.embeddings.header import read_header
from eclipse.embeddings.store import Store
from eclipse.errors import CheckpointError, ConfigError, DataError
from eclipse.evaluate.split import REFERENCES, Result, Tools, World, evaluate_split
from eclipse.files import atomic_folder, read_json, write_json
from eclipse.models.checkpoint import Prior, load_prior
from eclipse.models.clip import FrozenClip
from eclipse.models.device import pick


def run(
    params: Params,
    *,
    store: Path,
    frozen: Path,
    dataset: Path,
    prior: Path | None = None,
    out: Path,
    metrics: Path,
    point: str,
    seed: int,
) -> dict[str, Any]:
    """Measure ``prior`` (none for the references ``truth`` and ``text``) and write ``out`` and the JSON ``metrics``.

    ``out`` gets per_prompt.parquet, images/<split>.npy (uint8, the decoded ones) and embeds.safetensors (ẑ_x float32 by
    split). Only captions of splits that the store holds are measured.
    """
    began = time.perf_counter()
    model = _load(prior, point, seed)
    tools = Tools.load(frozen, params.evaluate, images=params.evaluate.images, memory=params.decoder)
    clip = tools.judge.clip
    check_encoder(prior, clip)
    wanted = {TRAIN, *params.evaluate.splits}
    names = filled_splits(store, wanted)
    if TRAIN not in names or len(names) == 1:
        raise DataError(f"{store}: needs train and an evaluation split, holds {', '.join(names) or 'nothing'}")
    hashes = {"expect_weights_hash": clip.weights_hash, "expect_tokenizer_hash": clip.tokenizer_hash}
    stores = {name: Store.open(store, name, **hashes) for name in names}
    world = World.of(stores)
    unseen = params.evaluate.model_copy(update={"images": 0})  # of val_seen only embeddings are read, by the selection
    results = {
        name: evaluate_split(
            name,
            stores[name],
            world,
            tools,
            dataset=dataset,
            prior=model,
            point=point,
            params=unseen if name == "val_seen" and "val_held_out" in names else params.evaluate,
        )
        for name in names[1:]
    }
    captions = sum(len(r.ids) for r in results.values())
    summary = {
        "point": point,
        "seed": seed,
        "splits": {name: result.estimates(params.evaluate) for name, result in results.items()},
        "seconds": {
            "prior_per_caption": sum(r.prior_seconds for r in results.values()) / captions,
            "total": time.perf_counter() - began,
        },
    }
    _write(out, results)
    write_json(metrics, summary)
    return summary


def _load(prior: Path | None, point: str, seed: int) -> Prior | None:
    if (point in REFERENCES) != (prior is None):
        need = "takes no prior" if point in REFERENCES else "needs a trained prior (--prior priors/POINT-SEED)"
        raise ConfigError(f"point {point} {need}")
    return None if prior is None else load_trained(prior, point, seed)


def load_trained(prior: Path, point: str, seed: int) -> Prior:
    """Read the folder ``prior``; :class:`CheckpointError` if its training was not that of ``point`` and ``seed``."""
    lineage = read_json(prior / "training.json")
    if (lineage.get("point"), lineage.get("seed")) != (point, seed):
        raise CheckpointError(
            f"{prior}: holds {lineage.get('point')}-{lineage.get('seed')}, not {point}-{seed}; give the matching folder"
        )
    return load_prior(prior, device=pick())


def check_encoder(prior: Path | None, clip: FrozenClip) -> None:
    """:class:`CheckpointError` where the prior in the folder ``prior`` was trained on another CLIP than ``clip``."""
    trained_on = None if prior is None else read_json(prior / "training.json").get("encoder_hash")
    if trained_on not in (None, clip.weights_hash):
        raise CheckpointError(
            f"{prior}: was trained on the CLIP {trained_on[:12]}, but the frozen one is {clip.weights_hash[:12]} "
            f"({clip.name}); give the frozen models that it was trained with"
        )


def filled_splits(store: Path, wanted: Collection[str]) -> list[str]:
    """Those of ``wanted`` that hold records in ``store``, in the order of :data:`SPLITS`."""
    splits = read_header(store).splits
    return [name for name in SPLITS if name in wanted and name in splits and splits[name].count]


def _write(out: Path, results: dict[str, Result]) -> None:
    with atomic_folder(out) as beside:
        (beside / "images").mkdir()
        for name, result in results.items():
            np.save(beside / "images" / f"{name}.npy", result.images)
        save_file(
            {name: np.ascontiguousarray(r.predicted) for name, r in results.items()}, beside / "embeds.safetensors"
        )
        pq.write_table(_per_prompt(results), beside / "per_prompt.parquet")


def _per_prompt(results: dict[str, Result]) -> pa.Table:
    scores = sorted({name for result in results.values() for name in result.scores})
    columns: dict[str, Any] = {
        "split": [name for name, result in results.items() for _ in result.ids],
        "id": [i for result in results.values() for i in result.ids],
        "caption": [c for result in results.values() for c in result.captions],
    }
    for score in scores:
        parts = [r.scores.get(score, np.full(len(r.ids), np.nan)) for r in results.values()]
        columns[score] = pa.array(np.concatenate(parts), pa.float64())
    return pa.table(columns)
