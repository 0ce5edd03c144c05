"""Command ``drift``: whether new data differs from what was trained on, in CLIP's eyes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eclipse.config.params import Params
from eclipse.errors import ConfigError

SPLIT = "train"


def run(
    params: Params,
    *,
    reference: Path,
    fresh: Path,
    out: Path,
    sample: int = 1000,
    permutations: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare the training splits of two embedding stores by MMD on picture and on caption embeddings.

    ``out`` gets a JSON file: for ``images`` and ``captions`` MMD², its p-value, the kernel's bandwidth and the sample
    sizes; the datasets' digests, and how many records came and went by their ids.

    Args:
        params: not read; every command takes them.
        reference: the store that was trained on.
        fresh: the store of the new data, written by the same CLIP.
        out: the JSON file.
        sample: records of each store to compare, drawn by ``seed``; all, if there are fewer.
        permutations: resamples behind the p-values.
        seed: seed of the draw and of the permutations.
    """
    if sample < 2 or permutations < 1:
        raise ConfigError(f"--sample {sample}, --permutations {permutations}: need at least 2 and 1")
    from dataclasses import asdict

    from eclipse.embeddings.store import Store
    from eclipse.evaluate.drift import mmd_test
    from eclipse.files import write_json

    before = Store.open(reference, SPLIT)
    after = Store.open(fresh, SPLIT, expect_weights_hash=before.header.weights_hash)
    drawn = [_sample(store, sample, seed) for store in (before, after)]
    known, new = (set(store.table().column("id").to_pylist()) for store in (before, after))
    found: dict[str, Any] = {
        name: asdict(mmd_test(drawn[0][name], drawn[1][name], permutations=permutations, seed=seed))
        for name in ("images", "captions")
    }
    found |= {
        "reference": before.header.dataset_digest,
        "fresh": after.header.dataset_digest,
        "records": {"reference": len(known), "fresh": len(new), "added": len(new - known), "gone": len(known - new)},
    }
    write_json(out, found)
    for name in ("images", "captions"):
        print(f"{name}: MMD² {found[name]['mmd2']:.6f}, p {found[name]['p']:.4f}")
    return found


def _sample(store: Any, count: int, seed: int) -> dict[str, Any]:
    """Embeddings float32 [n, P] of up to ``count`` records, by name."""
    import numpy as np

    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(store), min(count, len(store)), replace=False))
    batch = store.read(chosen)
    return {"images": batch.image_embeds.float().numpy(), "captions": batch.prompt_embeds.float().numpy()}
