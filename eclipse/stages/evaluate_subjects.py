"""Stage ``evaluate-subjects``: one point (or a reference point) on captions with subjects."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from eclipse.config.params import EvaluateParams, Params
from eclipse.data.records import EVALUATION_SPLITS
from eclipse.embeddings.header import read_header
from eclipse.embeddings.store import Store
from eclipse.errors import CheckpointError, ConfigError, DataError
from eclipse.evaluate.bootstrap import estimate
from eclipse.evaluate.split import Tools
from eclipse.evaluate.subject_groups import EDGES, HELD_OUT, groups_of
from eclipse.evaluate.subject_split import REFERENCES, Measured, Prompts, measure, predict_prompts
from eclipse.evaluate.summary import has_edges
from eclipse.files import atomic_folder, read_json, write_json
from eclipse.models.checkpoint import Kind, Prior, kind_of
from eclipse.stages.evaluate import check_encoder, filled_splits, load_trained
from eclipse.train.point import parse_point


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
    """Measure ``prior`` on subjects and captions it never saw; write ``out`` and the JSON ``metrics``.

    ``prior`` is the trained point's folder; for the reference ``mean`` that of a text-only point; the references
    ``truth`` and ``subject`` do not read it. A point with edges is measured on ``test_held_out`` a second time, with
    the true pictures' edges.

    The first ``evaluate.subject_images`` prompts of each held-out split are decoded (of the seen splits, where the data
    holds nothing out). ``out`` gets per_prompt.parquet and images/<split>.npy (uint8, the decoded ones).
    """
    began = time.perf_counter()
    model = _load(prior, point, seed)
    if not read_header(store).subjects:
        raise DataError(f"{store}: holds no subjects; embed a dataset of the annotate stage")
    tools = Tools.load(frozen, params.evaluate, images=params.evaluate.subject_images, memory=params.decoder)
    check_encoder(prior if model is not None else None, tools.judge.clip)
    results = _measured(params.evaluate, store, dataset, tools, point, model)
    table = _per_prompt(results)
    captions = sum(len(result.prompts.ids) for result in results)
    summary = {
        "point": point,
        "seed": seed,
        "splits": _estimates(table, params.evaluate),
        "seconds": {
            "prior_per_caption": sum(result.prior_seconds for result in results) / captions,
            "total": time.perf_counter() - began,
        },
    }
    _write(out, results, table)
    write_json(metrics, summary)
    return summary


def _load(prior: Path | None, point: str, seed: int) -> Prior | None:
    """The prior that ``point`` is measured with, checked to be of its kind."""
    if point in REFERENCES and point != "mean":
        return None
    if prior is None:
        need = "the text-only baseline" if point == "mean" else "a trained prior"
        raise ConfigError(f"point {point} needs {need} (--prior subjects/priors/POINT-SEED)")
    trained = str(read_json(prior / "training.json").get("point")) if point == "mean" else point
    model = load_trained(prior, trained, seed)
    kind: Kind = "lambda-eclipse" if point != "mean" and parse_point(point).method == "lambda" else "eclipse"
    if kind_of(model) != kind:
        raise CheckpointError(f"{prior}: is a prior of kind {kind_of(model)}; point {point} needs one of kind {kind}")
    return model


def _measured(
    params: EvaluateParams, store: Path, dataset: Path, tools: Tools, point: str, model: Prior | None
) -> list[Measured]:
    """Every split that is asked for and holds records, and ``test_held_out`` again where the point takes edges."""
    names = filled_splits(store, set(params.splits) & set(EVALUATION_SPLITS))
    if not names:
        raise DataError(f"{store}: has no records in {', '.join(params.splits)}; check the dataset's split")
    decoded = [name for name in names if name.endswith("held_out")] or names
    results = []
    for name in names:
        clip = tools.judge.clip
        hashes = {"expect_weights_hash": clip.weights_hash, "expect_tokenizer_hash": clip.tokenizer_hash}
        source = Store.open(store, name, **hashes)
        prompts = Prompts.of(source)
        groups = {name: False, EDGES: True} if name == HELD_OUT and has_edges(point) else {name: False}
        count = params.subject_images if name in decoded else 0
        for group, edges in groups.items():
            predicted = predict_prompts(point, model, source, prompts, params, edges=edges)
            results.append(measure(group, prompts, predicted, tools, dataset=dataset, count=count, params=params))
    return results


def _per_prompt(results: list[Measured]) -> pa.Table:
    """Columns split, id, caption, n_subjects and every score (NaN = not defined), one row per prompt and group."""
    scores = sorted({name for result in results for name in result.scores})
    columns: dict[str, Any] = {
        "split": [result.group for result in results for _ in result.prompts.ids],
        "id": [i for result in results for i in result.prompts.ids],
        "caption": [caption for result in results for caption in result.prompts.captions],
        "n_subjects": np.concatenate([result.prompts.n_subjects for result in results]),
    }
    for score in scores:
        parts = [result.scores.get(score, np.full(len(result.prompts.ids), np.nan)) for result in results]
        columns[score] = pa.array(np.concatenate(parts), pa.float64())
    return pa.table(columns)


def _estimates(table: pa.Table, params: EvaluateParams) -> dict[str, dict[str, Any]]:
    """Group → metric → mean with its interval; metrics defined on no prompt of a group are left out."""
    scores = [name for name in table.column_names if name not in ("split", "id", "caption", "n_subjects")]
    groups = groups_of(np.array(table["split"].to_pylist()), table["n_subjects"].to_numpy())
    estimates: dict[str, dict[str, Any]] = {}
    for group, rows in groups.items():
        found = {
            name: estimate(table[name].to_numpy()[rows], count=params.bootstrap, seed=params.seed) for name in scores
        }
        estimates[group] = {name: value.to_dict() for name, value in found.items() if value is not None}
    return estimates


def _write(out: Path, results: list[Measured], table: pa.Table) -> None:
    with atomic_folder(out) as beside:
        (beside / "images").mkdir()
        for result in results:
            if result.images is not None:
                np.save(beside / "images" / f"{result.group.replace(':', '_')}.npy", result.images)
        pq.write_table(table, beside / "per_prompt.parquet")
