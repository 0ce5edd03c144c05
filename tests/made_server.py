"""A folder that a server can serve: the shipped frozen models, and small random priors of their widths."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
import yaml

from eclipse.models.checkpoint import prior_hash, save_prior
from eclipse.models.clip import FrozenClip
from eclipse.models.prior import EclipsePrior

REPOSITORY = Path(__file__).resolve().parents[1]
MINI = REPOSITORY / "models" / "mini"
NAMES = {"eclipse": "eclipse-prior-eclipse-mini", "lambda-eclipse": "eclipse-prior-lambda-eclipse-mini"}
FOLDERS = {"eclipse": "artifacts/selected", "lambda-eclipse": "artifacts/subjects/selected"}


def make_prior(folder: Path, variant: str, seed: int = 0) -> str:
    """Write a random prior for the shipped CLIP, replacing the one in ``folder``; its hash."""
    torch.manual_seed(seed)
    prior = EclipsePrior(
        96,
        None,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=16,
        additional_embeddings=4 if variant == "lambda-eclipse" else 3,
    )
    for parameter in prior.parameters():
        parameter.data.mul_(2)
    made = save_prior(prior, folder)
    training = {"encoder_hash": encoder_hash(), "prior_hash": made, "method": variant, "point": "random", "seed": seed}
    (folder / "training.json").write_text(json.dumps(training | {"dataset_digest": "d" * 64, "store_hash": "5" * 64}))
    assert prior_hash(folder) == made
    return made


def encoder_hash() -> str:
    return FrozenClip.load(MINI / "clip", device="cpu").weights_hash


def make_root(root: Path, **serve: object) -> Path:
    """A checked-out state to serve, with these parameters of ``serve``."""
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["serve"] |= {"steps": 2, "max_steps": 50, "poll_seconds": 0.2} | serve
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    for variant, folder in FOLDERS.items():
        make_prior(root / folder, variant)
    shutil.copytree(MINI / "clip", root / "artifacts/frozen/clip")
    shutil.copytree(MINI / "decoder", root / "artifacts/frozen/decoder")
    return root
