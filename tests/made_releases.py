"""Tiny priors as ``select`` leaves them, and frozen models of a few bytes, for tests of releases and promotion."""

from __future__ import annotations

from pathlib import Path

import torch

from eclipse.files import write_json
from eclipse.models.checkpoint import save_prior
from eclipse.models.prior import EclipsePrior

ENCODER = "c" * 64
NAMES = {"eclipse": "eclipse-prior-eclipse-mini", "lambda-eclipse": "eclipse-prior-lambda-eclipse-mini"}


def make_prior(folder: Path, seed: int = 0, *, variant: str = "eclipse", encoder: str = ENCODER) -> str:
    """Write a prior with all the files of a selected one; its prior_hash."""
    torch.manual_seed(seed)
    size = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8}
    prior = EclipsePrior(12, 10, **size) if variant == "eclipse" else EclipsePrior(12, additional_embeddings=4, **size)
    hash_ = save_prior(prior, folder)
    point = "eclipse-0.2" if variant == "eclipse" else "lambda-0.2-edges"
    training = {"prior_hash": hash_, "encoder_hash": encoder, "point": point, "seed": seed, "dataset_digest": "d" * 64}
    write_json(folder / "training.json", training)
    write_json(folder / "selection.json", {"point": point, "seed": seed})
    (folder / "README.md").write_text(f"# {point}\n")
    return hash_


def make_frozen(folder: Path, mark: str = "a") -> Path:
    """Write folders of the right names, whose contents no model reads."""
    for name in ("clip", "decoder/unet", "oracle"):
        (folder / name).mkdir(parents=True)
        (folder / name / "weights.safetensors").write_text(f"{name} {mark}")
    return folder


def registered(version: str, variant: str = "eclipse") -> dict:
    tags = {"eclipse.git.commit": "f" * 40, "eclipse.variant": variant}
    return {"name": NAMES[variant], "version": version, "variant": variant, "tags": tags}
