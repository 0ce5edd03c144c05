"""The subject studies (docs/study-subjects.md): dropping edges in training, and a foreign encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch

from eclipse.config import Params
from eclipse.embeddings.batch import Batch
from eclipse.embeddings.store import Store
from eclipse.errors import StoreError
from eclipse.evaluate.generate import predict_split, prompt_seeds
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
from eclipse.models.checkpoint import load_prior
from eclipse.models.clip import save_clip
from eclipse.models.device import pick
from eclipse.stages import evaluate_subjects, train

_POINT = "lambda-0.2-edges"
_BASELINE = 0.01
_COLUMNS = ["split", "id", *METRICS]


def edge_drop(
    params: Params, *, store: Path, evaluation: Path, dataset: Path, frozen: Path, work: Path, out: Path, drop: float
) -> dict[str, Any]:
    """Train λ = 0.2 with edges at one ``drop`` and judge it on ``evaluation``, a store of the fresh ``dataset``.

    Finished seeds are kept in ``work``. ``out`` gets one row per seed, group and prompt (Parquet).
    """
    settings = params.model_copy(update={"train": params.train.model_copy(update={"control_drop": drop})})
    parts = []
    for seed in params.study.edge_seeds:
        name = f"{_POINT}-{seed}"
        prior, metrics, details = work / "priors" / name, work / "evaluate" / f"{name}.json", work / "details" / name
        if not metrics.exists():
            train.run(
                settings, store=store, out=prior, metrics=work / "train" / f"{name}.json",
                checkpoints=work / "checkpoints", point=_POINT, seed=seed,
            )  # fmt: skip
            evaluate_subjects.run(
                settings, store=evaluation, frozen=frozen, dataset=dataset, prior=prior, out=details, metrics=metrics,
                point=_POINT, seed=seed,
            )  # fmt: skip
        parts.append(pd.read_parquet(details / "per_prompt.parquet")[_COLUMNS].assign(seed=seed))
    with atomic_file(out) as beside:
        pd.concat(parts, ignore_index=True).to_parquet(beside)
    return {"drop": drop, "seeds": len(parts)}


def other_clip(params: Params, *, out: Path, checkpoints: Path) -> dict[str, Any]:
    """Train a second mini CLIP: smaller, of another seed, with embeddings as wide as the first one's."""
    from eclipse.pretrain.clip import CLIP_CONFIG, train_clip
    from eclipse.pretrain.fit import FitSettings
    from eclipse.world.pool import make_pool

    config = {
        **CLIP_CONFIG,
        "vision_cfg": {**CLIP_CONFIG["vision_cfg"], "layers": [1, 1, 1, 1], "width": 12},
        "text_cfg": {**CLIP_CONFIG["text_cfg"], "layers": 2},
    }
    fit, seed = params.frozen.clip, params.frozen.seed + 1
    settings = FitSettings(
        steps=params.study.other_clip_steps, batch_size=fit.batch_size, lr=fit.lr, seed=seed, weight_decay=0.05
    )
    pool = make_pool(20_000, 10 * seed + 9, edges=0.08, crops=0.1)
    model = train_clip(pool, settings, checkpoints / "other-clip.pt", config)
    with atomic_folder(out) as beside:
        save_clip(model, config, beside, name="other-clip")
    return {"parameters": sum(p.numel() for p in model.parameters())}


def encoders(
    params: Params, *, store: Path, other: Path, dataset: Path, frozen: Path, work: Path, out: Path
) -> dict[str, Any]:
    """Ask a prior of ``store`` with that store, with the ``other`` encoder's, and with that one mapped linearly.

    Both stores are of ``dataset``; the prior is kept in ``work``. ``out`` gets one row per way and prompt (Parquet) and
    the refusal's words.
    """
    prior = work / "priors" / "lambda-0.2-0"
    if not (prior / "training.json").exists():
        train.run(
            params, store=store, out=prior, metrics=work / "train" / "lambda-0.2-0.json",
            checkpoints=work / "checkpoints", point="lambda-0.2", seed=0,
        )  # fmt: skip
    tools = Tools.load(frozen, params.evaluate, images=params.evaluate.subject_images)
    right, foreign = Store.open(store, HELD_OUT), Store.open(other, HELD_OUT)
    refusal = _refusal(other, tools.judge.clip.weights_hash)
    bridge = fit_bridge(Store.open(other, "train"), Store.open(store, "train"))
    prompts = Prompts.of(right)
    model = load_prior(prior, device=pick(), kind="lambda-eclipse")
    seeds = prompt_seeds(HELD_OUT, prompts.ids, "prior", params.evaluate.seed)
    parts = []
    for name, source, through in (
        ("the right encoder", right, None),
        ("another one, forced", foreign, None),
        ("another one, mapped linearly", foreign, bridge),
    ):
        predicted = predict_split(model, source, seeds, params.evaluate, desc=name, condition=_asked(source, through))
        found = measure(
            HELD_OUT, prompts, predicted, tools, dataset=dataset, count=params.evaluate.subject_images,
            params=params.evaluate,
        )  # fmt: skip
        scores = {metric: found.scores[metric] for metric in METRICS}
        parts.append(pd.DataFrame({"way": name, "split": HELD_OUT, "id": prompts.ids, **scores}))
    with atomic_folder(out) as beside:
        pd.concat(parts, ignore_index=True).to_parquet(beside / "ways.parquet")
        write_json(beside / "refusal.json", {"refusal": refusal})
    return {"prompts": len(prompts.ids)}


def summary(params: Params, *, drops: Path, encoders: Path, out: Path) -> dict[str, Any]:
    """Both studies' results.json, page and figure, in ``out``/edge-drop and ``out``/encoders."""
    cells = {float(path.stem): pd.read_parquet(path) for path in drops.glob("*.parquet")}
    dropped = edge_drop_results(cells, params.study, _BASELINE)
    table = pd.read_parquet(encoders / "ways.parquet")
    ways = {str(name): table[table.way == name] for name in dict.fromkeys(table.way)}
    foreign = encoder_results(ways, read_json(encoders / "refusal.json")["refusal"], params.study)
    with atomic_folder(out) as beside:
        for name, found in (("edge-drop", dropped), ("encoders", foreign)):
            (beside / name).mkdir()
            write_json(beside / name / "results.json", found)
            (beside / name / "README.md").write_text(markdown(found), encoding="utf-8")
        (beside / "edge-drop" / "figures").mkdir()
        figure(dropped, beside / "edge-drop" / "figures" / "edge-drop.png")
    return {"drops": len(cells), "encoders": len(ways)}


def _refusal(other: Path, weights_hash: str) -> str:
    """What opening a store of another encoder says by default; that it opens is an error of ours."""
    try:
        Store.open(other, HELD_OUT, expect_weights_hash=weights_hash)
    except StoreError as error:
        return str(error)
    raise StoreError(f"{other}: was written by the right encoder; embed the dataset with the other one")


def _asked(source: Store, bridge: Bridge | None) -> Any:
    """How a λ-ECLIPSE prior is asked from ``source``, through ``bridge`` where there is one."""
    if bridge is None:
        return interleaved(source.nothing)
    plain = interleaved(bridge.image(source.nothing[None])[0])

    def condition(batch: Batch) -> tuple[Batch, torch.Tensor]:
        carried: tuple[Batch, torch.Tensor] = plain(bridge.carry(batch))
        return carried

    return condition
