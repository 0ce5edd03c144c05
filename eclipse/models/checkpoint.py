"""Priors on disk: config.json + diffusion_pytorch_model.safetensors, the published layout, read strictly.

diffusers itself loads an ECLIPSE file into its PriorTransformer with a mere warning and then computes nonsense; here a
file that does not fit key by key is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from eclipse.errors import CheckpointError, EclipseError
from eclipse.files import atomic_folder, read_json, sha256, write_json
from eclipse.models.prior import EclipsePrior

if TYPE_CHECKING:
    from diffusers.models.transformers.prior_transformer import PriorTransformer

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
META = "eclipse"
"""Key of the provenance in the header of the weights file."""

Prior: TypeAlias = "EclipsePrior | PriorTransformer"
Kind = Literal["eclipse", "lambda-eclipse", "diffusion"]

_ECLIPSE_FIELDS = (
    "embedding_dim",
    "state_dim",
    "num_layers",
    "num_attention_heads",
    "attention_head_dim",
    "num_embeddings",
    "additional_embeddings",
)
_DIFFUSION_FIELDS = tuple(x for x in _ECLIPSE_FIELDS if x != "state_dim")
_FIXED = {
    "dropout": 0.0,
    "norm_in_type": None,
    "embedding_proj_norm_type": None,
    "encoder_hid_proj_type": "linear",
    "added_emb_type": "prd",
    "time_embed_act_fn": "silu",
    "time_embed_dim": None,
    "embedding_proj_dim": None,
    "clip_embed_dim": None,
}
"""What published configs may also say, with the only values these models have."""

_EXPLAIN = {
    "embedding_control": "it is a λ-ECLIPSE prior with a control token",
    "time_embedding": "it is a diffusion prior, which has a time token",
}
_LACKS = {
    "embedding_control": "it has no control token, so it is no λ-ECLIPSE prior",
    "time_embedding": "it has no time token, so it is no diffusion prior",
}
"""Reasons by the weights that are too many, and by those that are not there."""

DESCRIBED: dict[Kind, str] = {
    "eclipse": "an ECLIPSE prior, one pass, no control token",
    "lambda-eclipse": "a λ-ECLIPSE prior, whose control token an ECLIPSE prior does not have",
    "diffusion": "a diffusion prior, whose time token and many steps an ECLIPSE prior does not have",
}


def kind_of(prior: Prior) -> Kind:
    """Which of the three priors a model is."""
    if not isinstance(prior, EclipsePrior):
        return "diffusion"
    return "eclipse" if prior.embedding_control is None else "lambda-eclipse"


def save_prior(prior: Prior, folder: Path, meta: Mapping[str, Any] | None = None) -> str:
    """Write a prior, replacing ``folder`` whole, and return its :func:`prior_hash`.

    ``meta`` (JSON-able) goes into the header of the weights file. Weights keep their dtype; the same weights, config
    and meta give the same bytes.
    """
    fields = _ECLIPSE_FIELDS if isinstance(prior, EclipsePrior) else _DIFFUSION_FIELDS
    config = {"_class_name": type(prior).__name__, **{x: prior.config[x] for x in fields}}
    if not isinstance(prior, EclipsePrior):
        config["num_train_timesteps"] = prior.config.get("num_train_timesteps", 1000)
    weights = {key: value.detach().cpu().contiguous() for key, value in prior.state_dict().items()}
    # safetensors writes the entries of its header in a random order, so there is only one.
    header = {META: json.dumps(meta or {}, sort_keys=True, allow_nan=False)}
    with atomic_folder(folder) as beside:
        write_json(beside / CONFIG, config)
        save_file(weights, beside / WEIGHTS, metadata=header)
    return prior_hash(folder)


def load_prior(folder: Path, *, device: str | torch.device = "cpu", kind: Kind | None = None) -> Prior:
    """Read a prior in eval mode, in float32; ``kind`` says which one the caller has a place for.

    The folder's config decides between :class:`EclipsePrior` and diffusers' ``PriorTransformer``; a published ECLIPSE
    prior, whose config names the latter though its weights have no time embedding, is recognised. Missing, unexpected
    or misshapen weights, another kind, or damaged files are a CheckpointError that names them.
    """
    config, weights = _read_config(folder / CONFIG), _read_weights(folder / WEIGHTS)
    prior = _build(config, weights, folder)
    if kind is not None and kind_of(prior) != kind:
        found = kind_of(prior)
        raise CheckpointError(
            f"{folder}: holds a prior of kind {found}, but {kind} is needed here: it is {DESCRIBED[found]}"
        )
    _check_keys(prior, weights, folder / WEIGHTS)
    prior.load_state_dict(weights, strict=True)
    return prior.to(device).eval()


def prior_hash(folder: Path) -> str:
    """SHA-256 over config and weights: the name of a prior in training records, registry and service."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name}: no such file; a prior's folder has {CONFIG} and {WEIGHTS}")
    return hashlib.sha256(f"{sha256(folder / CONFIG)}\n{sha256(folder / WEIGHTS)}\n".encode()).hexdigest()


def prior_meta(folder: Path) -> dict[str, Any]:
    """The ``meta`` that :func:`save_prior` was given; empty for a prior that was saved elsewhere."""
    path = folder / WEIGHTS
    try:
        with safe_open(path, framework="pt") as file:
            meta: dict[str, Any] = json.loads((file.metadata() or {}).get(META, "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); copy or train it again") from None
    return meta


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; a prior's folder has {CONFIG} and {WEIGHTS}")
    config = read_json(path)
    if not isinstance(config, dict) or config.get("_class_name") not in ("EclipsePrior", "PriorTransformer"):
        raise CheckpointError(f"{path}: _class_name is neither EclipsePrior nor PriorTransformer; not a prior's config")
    for key, value in _FIXED.items():
        if config.get(key, value) != value:
            raise CheckpointError(f"{path}: {key} is {config[key]!r}; only {value!r} is supported")
    return config


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; a prior's folder has {CONFIG} and {WEIGHTS}") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); copy or train it again") from None


def _build(config: dict[str, Any], weights: dict[str, Tensor], folder: Path) -> Prior:
    diffusion = config["_class_name"] == "PriorTransformer" and not _is_published_eclipse(config, weights)
    fields = _DIFFUSION_FIELDS if diffusion else _ECLIPSE_FIELDS
    given = {key: config[key] for key in fields if key in config}
    missing = [key for key in fields if key not in given and key != "state_dim"]
    if missing:
        raise CheckpointError(f"{folder / CONFIG}: {', '.join(missing)} missing; write the size of the prior there")
    try:
        prior = _diffusion(given) if diffusion else EclipsePrior(**given)
    except (EclipseError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{folder / CONFIG}: no prior can be built from it ({error})") from None
    if not isinstance(prior, EclipsePrior):
        prior.register_to_config(num_train_timesteps=config.get("num_train_timesteps", 1000))
    return prior


def _diffusion(given: dict[str, Any]) -> PriorTransformer:
    # diffusers imports all of its transformers with this one: seconds that only the baseline should cost.
    from diffusers.models.transformers.prior_transformer import PriorTransformer

    from eclipse.models.diffusion import freeze_statistics

    return freeze_statistics(PriorTransformer(**given))


def _is_published_eclipse(config: dict[str, Any], weights: dict[str, Tensor]) -> bool:
    """The authors' class has diffusers' name: known by a control token, or by one token less and no time embedding."""
    if "embedding_control.weight" in weights:
        return True
    return config.get("additional_embeddings") == 3 and "time_embedding.linear_1.weight" not in weights


def _check_keys(prior: Prior, weights: dict[str, Tensor], path: Path) -> None:
    wanted = {key: value.shape for key, value in prior.state_dict().items()}
    missing, unexpected = sorted(wanted.keys() - weights.keys()), sorted(weights.keys() - wanted.keys())
    shapes = [
        f"{key} {tuple(weights[key].shape)} instead of {tuple(shape)}"
        for key, shape in wanted.items()
        if key in weights and weights[key].shape != shape
    ]
    if not (missing or unexpected or shapes):
        return
    problems = [
        f"{title} {', '.join(keys[:4])}{f' and {len(keys) - 4} more' if len(keys) > 4 else ''}"
        for title, keys in (("missing", missing), ("unexpected", unexpected), ("wrong shape", shapes))
        if keys
    ]
    reasons = [
        reason
        for table, keys in ((_EXPLAIN, unexpected), (_LACKS, missing))
        for start, reason in table.items()
        if any(key.startswith(start) for key in keys)
    ]
    raise CheckpointError(
        f"{path}: not a prior of kind {kind_of(prior)} as its config says: {'; '.join(problems)}"
        + (f" ({'; '.join(reasons)})" if reasons else "")
    )
