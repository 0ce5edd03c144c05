"""Stage ``train``: one prior of the sweep, from an embedding store."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from eclipse import __version__
from eclipse.config.params import Params
from eclipse.embeddings.header import Header
from eclipse.embeddings.loader import BatchOrder
from eclipse.embeddings.store import Store, store_hash
from eclipse.errors import ConfigError, StoreError
from eclipse.files import atomic_folder, write_json
from eclipse.models.checkpoint import prior_hash, save_prior
from eclipse.models.device import pick
from eclipse.models.prior import EclipsePrior
from eclipse.models.warm_start import warm_start as start_from
from eclipse.train.distributed import World, join_world
from eclipse.train.loop import Plan, Trainer
from eclipse.train.objective import EclipseObjective, LambdaObjective, Objective, Terms
from eclipse.train.point import Point, parse_point
from eclipse.train.probes import write_curves
from eclipse.train.state import TrainingState

log = logging.getLogger(__name__)

_SPLIT = "train"
_CHUNK = 65536
_NO_EFFECT = {"checkpoint_every", "subject_steps", "subject_batch_size"}
_EDGES_ONLY = {"control_drop"}
_WITH_CONTROL = 4
_INTERLEAVING = "token spans of the subjects' nouns hold their pictures' embeddings; the pooled text stays the words'"


def run(
    params: Params,
    *,
    store: Path,
    out: Path,
    metrics: Path,
    checkpoints: Path,
    point: str,
    seed: int,
    warm_start: Path | None = None,
) -> dict[str, Any]:
    """Train the prior of ``point`` with ``seed`` on ``store``'s training split.

    Points are projection, diffusion, eclipse-λ, and on a store with subjects lambda-λ and lambda-λ-edges; the others
    read such a store as text alone. ``warm_start`` is the folder of a prior to start from, see
    :mod:`eclipse.models.warm_start`.

    Writes the prior, training.json (lineage and conventions) and curves.csv to the folder ``out``, and the last row of
    the curve to ``metrics``. A killed or stopped training goes on from ``checkpoints`` when the same command runs
    again; its state is removed once ``out`` is there. Under torchrun all processes share each batch; the first writes.
    """
    what = parse_point(point)
    source = Store.open(store, _SPLIT)
    _check(source.header, store, what, warm_start)
    params = _for_store(params, source.header)
    order = BatchOrder(min(len(source), params.train.limit or len(source)), params.train.batch_size, seed)
    lineage = _lineage(params, source.header, store, what, seed, warm_start)
    folder = checkpoints / f"{what.name}-{seed}" / lineage["digest"][:16]
    with join_world(pick()) as world:
        torch.manual_seed(seed)
        prior = _build(params, source, what, warm_start)
        objective = _objective(params, source, prior, what, lineage["temperature"])
        plan = Plan(params.train, objective, seed, lineage["digest"], folder / "state.pt")
        state = Trainer(prior, source, order, plan, world).run()
        summary = _summary(params, state, what, seed, world)
        if world.writes:
            _write(out, state, lineage, world)
            write_json(metrics, summary)
            _forget(folder)
        world.barrier()
    return summary


def _check(header: Header, store: Path, point: Point, start: Path | None) -> None:
    """Refuse a λ-ECLIPSE point without subjects, and a warm start of the diffusion baseline."""
    if point.method == "lambda" and not header.subjects:
        raise StoreError(
            f"{store}: has no subjects, which {point.name} is trained on; run the stages annotate and embed, and give "
            "their store"
        )
    if point.method == "diffusion" and start is not None:
        raise ConfigError("warm_start: the diffusion baseline starts from nothing only; leave it out")


def _for_store(params: Params, header: Header) -> Params:
    """The parameters with ``train.steps`` and ``train.batch_size`` as they are for this store."""
    if not header.subjects:
        return params
    own = {"steps": params.train.subject_steps, "batch_size": params.train.subject_batch_size}
    given = {name: value for name, value in own.items() if value is not None}
    return params.model_copy(update={"train": params.train.model_copy(update=given)})


def _lineage(
    params: Params, header: Header, store: Path, point: Point, seed: int, start: Path | None
) -> dict[str, Any]:
    """What the weights depend on, with the conventions that the papers leave open; ``digest`` is over all of it."""
    unused = _NO_EFFECT if point.edges else _NO_EFFECT | _EDGES_ONLY
    settings = params.train.model_dump(mode="json", exclude=unused if params.train.compile else unused | {"compile"})
    lineage: dict[str, Any] = {
        "version": __version__,
        "point": point.name,
        "method": point.method,
        "lam": point.lam,
        "seed": seed,
        "prior_params": params.prior.model_dump(mode="json"),
        "train_params": settings,
        "params_digest": _digest([params.prior.model_dump(mode="json"), settings]),
        "store_hash": store_hash(store),
        "dataset_digest": header.dataset_digest,
        "encoder": header.encoder,
        "encoder_hash": header.weights_hash,
        "tokenizer_hash": header.tokenizer_hash,
        "mse_reduction": params.train.mse_reduction,
        "temperature": params.train.temperature or 1 / header.logit_scale,
        "contrastive_direction": "prediction to text, normalised vectors, global batch",
    }
    if point.method == "lambda":
        control = "edges of the picture" if point.edges else "zero-pixel image"
        lineage |= {"additional_embeddings": _WITH_CONTROL, "control": control, "interleaving": _INTERLEAVING}
    if header.precision != "fp32":
        lineage["store_precision"] = header.precision
    if start is not None:
        lineage["warm_start"] = prior_hash(start)
    return {**lineage, "digest": _digest(lineage)}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _build(params: Params, source: Store, point: Point, start: Path | None) -> nn.Module:
    """A fresh prior, or one with the weights of ``start``; its widths are the store's."""
    header, size = source.header, params.prior
    shape: dict[str, int] = {
        "num_layers": size.layers,
        "num_attention_heads": size.heads,
        "attention_head_dim": size.head_dim,
        "num_embeddings": header.context_length,
    }
    if point.method == "diffusion":
        return _build_diffusion(params, source, shape)
    if point.method == "lambda":
        shape["additional_embeddings"] = _WITH_CONTROL
    prior = EclipsePrior(header.projection_dim, header.state_dim, **shape)
    if start is not None:
        start_from(prior, start, encoder_hash=header.weights_hash)
    return prior


def _build_diffusion(params: Params, source: Store, shape: dict[str, int]) -> nn.Module:
    from eclipse.models.diffusion import build_diffusion, fit_normalisation

    header, steps = source.header, params.train.diffusion_steps
    prior = build_diffusion(header.projection_dim, header.state_dim, train_steps=steps, **shape)
    fit_normalisation(prior, _image_embeds(source))
    return prior


def _image_embeds(source: Store) -> torch.Tensor:
    """All image embeddings of a split, float32 [N, P]."""
    parts = [np.arange(start, min(start + _CHUNK, len(source))) for start in range(0, len(source), _CHUNK)]
    return torch.cat([source.gather(part).image_embeds for part in parts])


def _objective(params: Params, source: Store, prior: nn.Module, point: Point, temperature: float) -> Objective:
    settings = params.train
    terms = Terms(temperature, settings.mse_reduction, settings.row_tokens)
    if point.method == "diffusion":
        from eclipse.train.diffusion import DiffusionObjective

        return DiffusionObjective(terms, prior, settings.condition_drop)
    lam = point.lam or 0.0
    if point.method == "lambda":
        return LambdaObjective(terms, lam, source.nothing, point.edges, settings.control_drop)
    return EclipseObjective(terms, lam)


def _summary(params: Params, state: TrainingState, point: Point, seed: int, world: World) -> dict[str, Any]:
    last = {name: value for name, value in state.rows[-1].items() if name not in ("step", "lr", "seconds")}
    samples = params.train.steps * params.train.batch_size
    return {
        "point": point.name,
        "seed": seed,
        "lam": point.lam,
        "steps": params.train.steps,
        "parameters": sum(p.numel() for p in state.prior.parameters() if p.requires_grad),
        "seconds": round(state.seconds, 2),
        "samples_per_second": round(samples / state.seconds, 1),
        "world_size": world.size,
        **{name: round(value, 6) for name, value in last.items()},
    }


def _write(out: Path, state: TrainingState, lineage: dict[str, Any], world: World) -> None:
    with atomic_folder(out) as beside:
        name = save_prior(state.prior, beside, lineage)
        machine = {"world_size": world.size, "device": world.device.type}
        write_json(beside / "training.json", {**lineage, **machine, "prior_hash": name})
        write_curves(beside / "curves.csv", state.rows)
    log.info("%s: %d steps in %.1f s", out, state.step, state.seconds)


def _forget(folder: Path) -> None:
    """Remove a finished training's state; states of the same point under other parameters stay."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()
