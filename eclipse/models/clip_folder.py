"""The folder of a frozen CLIP: what its configuration may ask for, its weights read strictly, and the hash of both."""

from __future__ import annotations

import hashlib
import inspect
import json
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from safetensors import SafetensorError
from safetensors.torch import load_file

from eclipse.errors import CheckpointError, DataError
from eclipse.files import sha256

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"


def check_config(config: Any, path: Path) -> None:
    """Refuse (:class:`CheckpointError`) a configuration that asks for what priors cannot be fed with."""
    if not isinstance(config, dict) or not isinstance(config.get("model_cfg"), dict):
        raise CheckpointError(f"{path}: has no model_cfg; this is not an open_clip folder")
    text = config["model_cfg"].get("text_cfg", {})
    known = inspect.signature(CLIP.__init__).parameters
    foreign = sorted(set(config["model_cfg"]) - set(known))
    if foreign or text.get("hf_model_name") or text.get("hf_tokenizer_name"):
        what = ", ".join(foreign) or "a Hugging Face text tower"
        raise CheckpointError(f"{path}: {what} is not supported; use a CLIP with open_clip's own text tower")
    unlike = {"pool_type": "argmax", "no_causal_mask": False, "embed_cls": False, "proj_type": "linear"}
    for key, needed in unlike.items():
        if text.get(key, needed) != needed:
            raise CheckpointError(f"{path}: text_cfg.{key} must be {needed} for a prior's causal text states")
    preprocess = config.get("preprocess_cfg", {})
    if preprocess.get("resize_mode", "shortest") not in ("shortest", "squash"):
        raise CheckpointError(f"{path}: preprocess_cfg.resize_mode must be shortest or squash")
    if preprocess.get("interpolation", "bicubic") not in ("bicubic", "bilinear"):
        raise CheckpointError(f"{path}: preprocess_cfg.interpolation must be bicubic or bilinear")
    if set(text.get("tokenizer_kwargs") or {}) - {"clean"}:
        raise CheckpointError(f"{path}: text_cfg.tokenizer_kwargs may set nothing but clean")


def build_clip(model_cfg: dict[str, Any], path: Path) -> CLIP:
    """The model that ``model_cfg`` describes, its weights still to be read; ``path`` is what errors name."""
    try:
        # Initialisation is overwritten by the weights: it must not move the caller's random state.
        with torch.random.fork_rng(devices=[]):
            return CLIP(**model_cfg)
    except (TypeError, KeyError, RuntimeError, AssertionError) as error:
        raise CheckpointError(f"{path}: model_cfg does not describe a CLIP: {' '.join(str(error).split())}") from None


def load_strictly(model: CLIP, path: Path) -> None:
    """Fill ``model`` from the safetensors file ``path``; every name and shape must be the model's own."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; run the stage that writes it (dvc repro)")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error}); fetch or train it again") from None
    try:
        model.load_state_dict({key: v.float() if v.is_floating_point() else v for key, v in state.items()}, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: weights do not fit {CONFIG}: {' '.join(str(error).split())}") from None


def weights_hash_of(config: dict[str, Any], weights: Path) -> str:
    """Over the weights and everything in the configuration that changes what they compute (heads, activation, mean)."""
    meaning = {key: config.get(key) for key in ("model_cfg", "preprocess_cfg")}
    return hashlib.sha256(f"{json.dumps(meaning, sort_keys=True)}\0{sha256(weights)}".encode()).hexdigest()
