"""A selected prior as the select stage leaves it, small and untrained, for the shipped CLIP."""

import json
from pathlib import Path

import torch

from eclipse.models.checkpoint import save_prior
from eclipse.models.clip import FrozenClip
from eclipse.models.prior import EclipsePrior

ROOT = Path(__file__).resolve().parents[1]
CLIP = ROOT / "models" / "mini" / "clip"
CARD = "---\nlicense: apache-2.0\n---\n\n# {name}\n\nA prior.\n"


def make_selected(root: Path, *, point: str = "eclipse-0.2", seed: int = 0, weights: int = 0) -> dict[str, Path]:
    """Write ``selected`` and ``evaluations`` below ``root``; ``weights`` seeds the prior. Keyword paths of register."""
    clip = FrozenClip.load(CLIP, device="cpu")
    torch.manual_seed(weights)
    prior = EclipsePrior(
        clip.projection_dim, clip.state_dim, num_layers=1, num_attention_heads=2, attention_head_dim=8,
        additional_embeddings=4 if point.startswith("lambda-") else 3,
    )  # fmt: skip
    folder = root / "selected"
    prior_hash = save_prior(prior, folder)
    record = {
        "point": point, "seed": seed, "lam": 0.2, "prior_hash": prior_hash, "encoder_hash": clip.weights_hash,
        "store_hash": "a" * 64, "dataset_digest": "d" * 64, "train_params": {"steps": 6},
    }  # fmt: skip
    (folder / "training.json").write_text(json.dumps(record))
    (folder / "selection.json").write_text(json.dumps({"point": point, "seed": seed, "prior_hash": prior_hash}))
    (folder / "README.md").write_text(CARD.format(name=f"{point}-{seed}"))
    splits = {
        "val_held_out": {"composition": {"value": 0.6, "low": 0.5, "high": 0.7, "n": 48}},
        "test_held_out": {"composition": {"value": 0.4, "low": 0.3, "high": 0.5, "n": 48}},
    }
    evaluations = root / "evaluate"
    evaluations.mkdir(exist_ok=True)
    (evaluations / f"{point}-{seed}.json").write_text(json.dumps({"point": point, "seed": seed, "splits": splits}))
    return {"selected": folder, "evaluations": evaluations, "clip": CLIP}
