"""Scores and pictures of one prior on the compared prompts, by the evaluation's own functions, and their cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from eclipse.config.decoder import DecoderParams
from eclipse.config.params import EvaluateParams
from eclipse.data.records import SPLITS, TRAIN
from eclipse.embeddings.header import read_header
from eclipse.embeddings.store import Store
from eclipse.errors import DataError
from eclipse.evaluate.split import Tools, World, evaluate_split
from eclipse.evaluate.subject_split import Prompts, measure, predict_prompts
from eclipse.files import atomic_folder, write_json
from eclipse.models.checkpoint import Prior
from eclipse.promotion.gate import Table

_TEXT = ("split", "id", "caption")


@dataclass(frozen=True)
class Measured:
    """Scores and pictures, uint8 [N, H, W, 3], of the compared prompts; row i of both is prompt i."""

    table: Table
    images: NDArray[np.uint8]


@dataclass(frozen=True)
class _Part:
    """One split: the names and captions of its prompts, their scores [N], and the pictures of the first K."""

    split: str
    ids: list[str]
    captions: list[str]
    scores: dict[str, NDArray[np.float64]]
    images: NDArray[np.uint8]


def measure_text(
    point: str,
    prior: Prior | None,
    splits: list[str],
    *,
    store: Path,
    dataset: Path,
    frozen: Path,
    params: EvaluateParams,
    memory: DecoderParams | None = None,
) -> Measured:
    """The first ``params.images`` captions of each of ``splits``; ``prior`` None is the reference ``point``."""
    tools = Tools.load(frozen, params, images=params.images, memory=memory)
    header = read_header(store)
    names = [name for name in SPLITS if name in header.splits and header.splits[name].count]
    if TRAIN not in names:
        raise DataError(f"{store}: has no train split, whose pictures retrieval is among; run the embed stage again")
    stores = {name: Store.open(store, name, **_hashes(tools)) for name in names}
    world = World.of(stores)
    parts = []
    for name in splits:
        found = evaluate_split(
            name, stores[name], world, tools, dataset=dataset, prior=prior, point=point, params=params
        )
        parts.append(_Part(name, found.ids, found.captions, found.scores, found.images))
    return _joined(parts)


def measure_subjects(
    point: str,
    prior: Prior | None,
    splits: list[str],
    *,
    store: Path,
    dataset: Path,
    frozen: Path,
    params: EvaluateParams,
    memory: DecoderParams | None = None,
) -> Measured:
    """The first ``params.subject_images`` captions with subjects of each of ``splits``, without edges.

    ``prior`` of the reference ``mean`` is the text-only baseline.
    """
    tools = Tools.load(frozen, params, images=params.subject_images, memory=memory)
    parts = []
    for name in splits:
        source = Store.open(store, name, **_hashes(tools))
        prompts = Prompts.of(source)
        predicted = predict_prompts(point, prior, source, prompts, params)
        found = measure(name, prompts, predicted, tools, dataset=dataset, count=params.subject_images, params=params)
        images = np.zeros((0, 1, 1, 3), np.uint8) if found.images is None else found.images
        parts.append(_Part(name, prompts.ids, prompts.captions, found.scores, images))
    return _joined(parts)


def _hashes(tools: Tools) -> dict[str, str]:
    """The encoder that a store has to be of."""
    clip = tools.judge.clip
    return {"expect_weights_hash": clip.weights_hash, "expect_tokenizer_hash": clip.tokenizer_hash}


def keep(folder: Path, measured: Measured, made_from: dict[str, Any]) -> None:
    """Write ``measured`` to ``folder``, and beside it what it was made from."""
    table = measured.table
    columns: dict[str, Any] = dict(zip(_TEXT, (table.splits, table.ids, table.captions), strict=True))
    with atomic_folder(folder) as beside:
        pq.write_table(pa.table({**columns, **table.scores}), beside / "per_prompt.parquet")
        np.save(beside / "images.npy", measured.images)
        write_json(beside / "made_from.json", made_from)


def read(folder: Path) -> Measured:
    """What :func:`keep` wrote; a :class:`DataError` where it cannot be read."""
    try:
        columns = pq.read_table(folder / "per_prompt.parquet")
        images = np.load(folder / "images.npy", allow_pickle=False)
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{folder}: unreadable ({reason}); delete it and review again") from None
    splits, ids, captions = (tuple(columns[name].to_pylist()) for name in _TEXT)
    scores = {name: columns[name].to_numpy() for name in columns.column_names if name not in _TEXT}
    return Measured(Table(splits, ids, captions, scores), images)


def _joined(parts: list[_Part]) -> Measured:
    """The prompts of all splits whose pictures were drawn, one split after the other."""
    names = sorted({name for part in parts for name in part.scores})
    counts = [len(part.images) for part in parts]
    drawn = list(zip(parts, counts, strict=True))
    scores = {
        name: np.concatenate([part.scores.get(name, np.full(count, np.nan))[:count] for part, count in drawn])
        for name in names
    }
    table = Table(
        splits=tuple(part.split for part, count in drawn for _ in range(count)),
        ids=tuple(name for part, count in drawn for name in part.ids[:count]),
        captions=tuple(caption for part, count in drawn for caption in part.captions[:count]),
        scores=scores,
    )
    return Measured(table, np.concatenate([part.images for part in parts]))
