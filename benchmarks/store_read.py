"""Random batches from the embedding store against padded .npy files per sample, alternating in one process.

    python benchmarks/store_read.py --samples 4000 --dim 1280

Both sides read from the page cache with one thread; CPU seconds are counted, so a busy machine disturbs little.
``read`` is what a training step waits for on the CPU (rows as stored: dequantising belongs on the device); ``gather``
dequantises on the CPU as well. The .npy side only loads and stacks float16: the text states alone, or, as the store's
reads do, z_y and z_x as well, each array being a file of its own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from eclipse.config.params import StoreParams
from eclipse.data.records import Record
from eclipse.embeddings.extract import Embedded
from eclipse.embeddings.quantise import Statics
from eclipse.embeddings.store import Store
from eclipse.embeddings.writer import StoreWriter, shard_name

CONTEXT = 77
SHARD = 1000
PARAMS = StoreParams(tokens="int8")
ARRAYS = ("states", "prompt_embeds", "image_embeds")


def main() -> None:
    """Print what each way reads, best round of each, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--dim", type=int, default=1280)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        report(*measure(Path(folder), args.samples, args.dim, args.batch, args.rounds))


def measure(folder: Path, samples: int, dim: int, batch: int, rounds: int) -> tuple[dict[str, float], Store]:
    """Samples per second of one core of each way of reading, the best of ``rounds``."""
    store = write(folder, samples, dim)
    ways: dict[str, Callable[[np.ndarray], object]] = {
        "store read": store.read,
        "store gather": store.gather,
        "states .npy": lambda index: _stacked(folder, index, "states"),
        "three .npy": lambda index: [_stacked(folder, index, name) for name in ARRAYS],
    }
    best = dict.fromkeys(ways, 0.0)
    rng = np.random.default_rng(1)
    for _ in range(rounds):
        index = rng.choice(samples, batch)
        for name, way in ways.items():
            began = time.process_time()
            way(index)
            best[name] = max(best[name], batch / (time.process_time() - began))
    return best, store


def _stacked(folder: Path, index: np.ndarray, name: str) -> np.ndarray:
    return np.stack([np.load(folder / name / f"{i}.npy") for i in index])


def write(folder: Path, samples: int, dim: int) -> Store:
    """The same random states as a store and as padded float16 .npy files; caption lengths as on the web (mean 15.5)."""
    rng = np.random.default_rng(0)
    statics = Statics(torch.zeros(dim), torch.ones(dim), torch.zeros(dim).half())
    writer = StoreWriter(folder / "store", {})
    writer.write_statics(statics)
    for name in ARRAYS:
        (folder / name).mkdir()
    for shard in tqdm(range(-(-samples // SHARD)), desc="write"):
        count = min(SHARD, samples - shard * SHARD)
        lengths = np.clip(np.round(rng.lognormal(2.55, 0.48, count)), 2, CONTEXT - 1).astype(np.int64)
        states = rng.standard_normal((int(lengths.sum()), dim), np.float32)
        vectors = torch.from_numpy(rng.standard_normal((count, dim), np.float32))
        records = [Record(f"{shard:03d}-{i:06d}", "caption", b"") for i in range(count)]
        embedded = Embedded(torch.from_numpy(states), lengths, vectors, vectors)
        writer.write_shard(shard_name("train", shard), records, embedded, statics, PARAMS)
        for i, body in enumerate(np.split(states, np.cumsum(lengths)[:-1])):
            padded = np.zeros((CONTEXT, dim), np.float16)
            padded[1 : len(body) + 1] = body
            for name, array in zip(ARRAYS, (padded, vectors[i].half().numpy(), vectors[i].half().numpy()), strict=True):
                np.save(folder / name / f"{shard * SHARD + i}.npy", array)
    facts = {"encoder": "random", "weights_hash": "", "tokenizer_hash": "", "dataset_digest": "", "logit_scale": 100.0}
    sizes = {"state_dim": dim, "projection_dim": dim, "context_length": CONTEXT}
    writer.publish(facts | sizes, PARAMS, {"train": -(-samples // SHARD)})
    return Store.open(folder / "store", "train")


def report(best: dict[str, float], store: Store) -> None:
    """Print the table."""
    print(f"{len(store)} samples, D = {store.header.state_dim}, {store.lengths.mean():.1f} tokens a caption")
    for name, rate in best.items():
        ratios = (f"{rate / best[slow]:6.1f}x {slow}" for slow in ("states .npy", "three .npy"))
        print(f"{name:14s} {rate:12,.0f} samples/s a core   {'   '.join(ratios)}")


if __name__ == "__main__":
    main()
