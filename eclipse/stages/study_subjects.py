"""The subject studies (docs/study-subjects.md): dropping edges in training, and a foreign encoder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from eclipse.config import Params
from eclipse.config.params import EvaluateParams
from eclipse.embeddings.batch import Batch
from eclipse.embeddings.store import Store, store_hash
from eclipse.errors import DataError, StoreError
from eclipse.evaluate.generate import Condition, predict_split, prompt_seeds
from eclipse.evaluate.split import Tools
from eclipse.evaluate.subject_groups import HELD_OUT
from eclipse.evaluate.subject_split import Prompts, interleaved, measure
from eclipse.evaluate.subject_study import (
    METRICS,
    Bridge,
    edge_drop_results,
    encoder_results,
    figure,
    fit_bridge,
    markdown,
)
from eclipse.files import atomic_file, atomic_folder, read_json, write_json
from eclipse.models.checkpoint import Prior, load_prior
from eclipse.models.clip import save_clip
from eclipse.models.device import pick
from eclipse.pretrain.clip import CLIP_CONFIG, train_clip
from eclipse.pretrain.fit import FitSettings
from eclipse.stages import evaluate_subjects, train
from eclipse.world.pool import make_pool

_EDGES_POINT = "lambda-0.2-edges"
_ENCODER_POINT = "lambda-0.2"
_BASELINE = 0.01  # the paper's share of dropped edges
_COLUMNS = ["split", "id", *METRICS]
_POOL = 20_000
_POOL_SEED = 505  # pretraining's pools have 101 to 404


def edge_drop(
    params: Params, *, store: Path, evaluation: Path, dataset: Path, frozen: Path, work: Path, out: Path, drop: float
) -> dict[str, Any]:
    """Train λ = 0.2 with edges at one ``drop`` and judge it on ``evaluation``, a store of the fresh ``dataset``.

    Finished seeds are kept in ``work``, so a stopped cell goes on. ``out`` gets one row per seed, group and prompt
    (Parquet).
    """
    settings = params.model_copy(
        update={
            "train": params.train.model_copy(update={"control_drop": drop}),
            "evaluate": params.evaluate.model_copy(update={"splits": (HELD_OUT,)}),
        }
    )
    kept = _kept(settings, work, store, evaluation)
    parts = []
    for seed in params.study.edge_seeds:
        name = f"{_EDGES_POINT}-{seed}"
        prior, details, metrics = kept / "priors" / name, kept / "details" / name, kept / "evaluate" / f"{name}.json"
        _trained(settings, store, prior, kept, _EDGES_POINT, seed)
        if not metrics.exists():
            evaluate_subjects.run(
                settings, store=evaluation, frozen=frozen, dataset=dataset, prior=prior, out=details, metrics=metrics,
                point=_EDGES_POINT, seed=seed,
            )  # fmt: skip
        table = pd.read_parquet(details / "per_prompt.parquet")
        parts.append(_judged(table, dataset).assign(seed=seed))
    with atomic_file(out) as beside:
        pd.concat(parts, ignore_index=True).to_parquet(beside)
    return {"drop": drop, "seeds": len(parts)}


def other_clip(params: Params, *, out: Path, checkpoints: Path) -> dict[str, Any]:
    """Train a second mini CLIP: smaller, of another seed, with embeddings as wide as the first one's.

    A stopped training goes on from ``checkpoints`` when the same command runs again.
    """
    config = {
        **CLIP_CONFIG,
        "vision_cfg": {**CLIP_CONFIG["vision_cfg"], "layers": [1, 1, 1, 1], "width": 12},
        "text_cfg": {**CLIP_CONFIG["text_cfg"], "layers": 2},
    }
    fit, seed = params.frozen.clip, params.frozen.seed + 1
    settings = FitSettings(
        steps=params.study.other_clip_steps, batch_size=fit.batch_size, lr=fit.lr, seed=seed, weight_decay=0.05
    )
    pool = make_pool(_POOL, 1000 * params.frozen.seed + _POOL_SEED, edges=0.08, crops=0.1)
    state = checkpoints / f"other-clip-{_digest([config, asdict(settings)])}.pt"
    model = train_clip(pool, settings, state, config)
    with atomic_folder(out) as beside:
        save_clip(model, config, beside, name="other-clip")
    state.unlink()
    return {"parameters": sum(p.numel() for p in model.parameters())}


def encoders(
    params: Params, *, store: Path, other: Path, dataset: Path, frozen: Path, work: Path, out: Path
) -> dict[str, Any]:
    """Ask a prior of ``store`` with that store, with the ``other`` encoder's, and with that one mapped linearly.

    Both stores are of ``dataset``; the prior is kept in ``work``. ``out`` gets ways.parquet, one row per way and
    prompt, and refusal.json: what opening the other store says by default.
    """
    tools = Tools.load(frozen, params.evaluate, images=params.evaluate.subject_images, memory=params.decoder)
    encoder = tools.judge.clip.weights_hash
    refusal = _refusal(other, encoder)
    right, foreign = Store.open(store, HELD_OUT, expect_weights_hash=encoder), Store.open(other, HELD_OUT)
    bridge = fit_bridge(Store.open(other, "train"), Store.open(store, "train"))
    kept = _kept(params, work, store)
    folder = kept / "priors" / f"{_ENCODER_POINT}-0"
    _trained(params, store, folder, kept, _ENCODER_POINT, 0)
    prior = load_prior(folder, device=pick(), kind="lambda-eclipse")
    ways: dict[str, tuple[Store, Condition]] = {
        "the right encoder": (right, interleaved(right.nothing)),
        "another one, forced": (foreign, interleaved(foreign.nothing)),
        "another one, mapped linearly": (foreign, _carried(bridge, foreign)),
    }
    prompts = Prompts.of(right)
    tables = [
        _scores(params.evaluate, prior, source, condition, prompts, tools, dataset).assign(way=name)
        for name, (source, condition) in ways.items()
    ]
    with atomic_folder(out) as beside:
        pd.concat(tables, ignore_index=True).to_parquet(beside / "ways.parquet")
        write_json(beside / "refusal.json", {"refusal": refusal})
    return {"prompts": len(prompts.ids)}


def summary(params: Params, *, drops: Path, encoders: Path, out: Path) -> dict[str, Any]:
    """Both studies' results.json and page, in ``out``/edge-drop (with a figure) and ``out``/encoders.

    ``drops`` holds a cell of each of ``study.drops``, named ``<drop>.parquet``; ``encoders`` is that stage's output.
    """
    cells = _cells(drops, params.study.drops)
    dropped = edge_drop_results(cells, params.study, _BASELINE)
    table = pd.read_parquet(encoders / "ways.parquet")
    ways = {str(name): table[table.way == name] for name in dict.fromkeys(table.way)}
    foreign = encoder_results(ways, read_json(encoders / "refusal.json")["refusal"], params.study)
    with atomic_folder(out) as beside:
        for name, found in (("edge-drop", dropped), ("encoders", foreign)):
            write_json(beside / name / "results.json", found)
            (beside / name / "README.md").write_text(markdown(found), encoding="utf-8")
        (beside / "edge-drop" / "figures").mkdir()
        figure(dropped, beside / "edge-drop" / "figures" / "edge-drop.png")
    return {"drops": len(cells), "encoders": len(ways)}


def _kept(params: Params, work: Path, *stores: Path) -> Path:
    """The folder in ``work`` of what these parameters and stores give: no other's results are taken for theirs."""
    sections = params.model_dump(mode="json", include={"prior", "train", "evaluate"})
    return work / _digest([sections, [store_hash(store) for store in stores]])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _trained(params: Params, store: Path, prior: Path, kept: Path, point: str, seed: int) -> None:
    """Train ``point`` unless its folder ``prior`` is there."""
    if not prior.exists():
        train.run(
            params, store=store, out=prior, metrics=kept / "train" / f"{prior.name}.json",
            checkpoints=kept / "checkpoints", point=point, seed=seed,
        )  # fmt: skip


def _judged(table: pd.DataFrame, dataset: Path) -> pd.DataFrame:
    """The columns that the studies read; without pictures, oracle or known scenes there are none to read."""
    missing = [name for name in _COLUMNS if name not in table]
    if missing:
        raise DataError(
            f"{dataset}: {', '.join(missing)} not measured; set evaluate.subject_images, and use records with "
            "scenes and frozen models with an oracle"
        )
    return table[_COLUMNS]


def _scores(
    params: EvaluateParams,
    prior: Prior,
    source: Store,
    condition: Condition,
    prompts: Prompts,
    tools: Tools,
    dataset: Path,
) -> pd.DataFrame:
    """Scores of ``prior``, asked from ``source`` under ``condition`` and judged as the right encoder's ``prompts``."""
    seeds = prompt_seeds(HELD_OUT, prompts.ids, "prior", params.seed)
    predicted = predict_split(prior, source, seeds, params, desc=HELD_OUT, condition=condition)
    found = measure(HELD_OUT, prompts, predicted, tools, dataset=dataset, count=params.subject_images, params=params)
    return _judged(pd.DataFrame({"split": HELD_OUT, "id": prompts.ids, **found.scores}), dataset)


def _carried(bridge: Bridge, foreign: Store) -> Condition:
    """How a λ-ECLIPSE prior is asked from ``foreign`` through ``bridge``, "no picture" included."""
    plain = interleaved(bridge.image(foreign.nothing[None])[0])

    def condition(batch: Batch) -> tuple[Batch, torch.Tensor]:
        return plain(bridge.carry(batch))

    return condition


def _refusal(other: Path, weights_hash: str) -> str:
    """What opening a store of another encoder says by default; that it opens is a :class:`StoreError` of ours."""
    try:
        Store.open(other, HELD_OUT, expect_weights_hash=weights_hash)
    except StoreError as error:
        return str(error)
    raise StoreError(f"{other}: was written by the right encoder; embed the dataset with the other one")


def _cells(folder: Path, drops: tuple[float, ...]) -> dict[float, pd.DataFrame]:
    """The cells of ``drops``; DVC names them as params.yaml writes the number (0 or 0.0)."""
    found = {}
    for path in sorted(folder.glob("*.parquet")):
        try:
            found[float(path.stem)] = path
        except ValueError:
            raise DataError(f"{path}: not named DROP.parquet; remove it") from None
    missing = [f"{drop:g}" for drop in drops if drop not in found]
    if missing:
        raise DataError(f"{folder}: no cell of drop {', '.join(missing)}; run study-edge-drop for it")
    return {drop: pd.read_parquet(found[drop]) for drop in drops}
