"""What each measure of docs/extraction.md brings, side by side in one process: ratios, not speeds.

    python benchmarks/extract.py

Weights are random, shapes are not: the text tower is ViT-L/14's with fewer layers, captions are as long as the web's
(log-normal, 15.5 tokens on average), pictures are 512² JPEGs. The two sides of a ratio take turns; each has the best of
its rounds. Text and precision are counted in CPU seconds, which a busy machine disturbs little; the pipeline can only
be measured by the clock, so run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from open_clip.model import CLIP
from PIL import Image

from eclipse.data.manifest import Manifest, Split, load_manifest
from eclipse.data.records import Record
from eclipse.data.shards import ShardWriter
from eclipse.embeddings.extract import encode_captions, encode_shard
from eclipse.embeddings.reading import open_reader, open_shards
from eclipse.embeddings.writer import shard_name
from eclipse.models.clip import FrozenClip, save_clip

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 768, "heads": 12, "layers": 3}
CONFIG = {
    "embed_dim": 768,
    "vision_cfg": {"image_size": 224, "layers": 1, "width": 256, "head_width": 64, "patch_size": 14},
    "text_cfg": TEXT,
}
BATCH = 64


def main() -> None:
    """Print the machine's class and a line for each ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=int, default=256)
    parser.add_argument("--pictures", type=int, default=512)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}, {len(os.sched_getaffinity(0))} cores, torch {torch.__version__}, one thread")
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        save_clip(CLIP(**CONFIG), CONFIG, Path(folder) / "clip")
        text(Path(folder) / "clip", args.captions, args.rounds)
        precision(Path(folder) / "clip", args.captions, args.rounds)
        pipeline(Path(folder), args.pictures, args.workers, args.rounds)


def machine() -> str:
    """The processor's model name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def text(folder: Path, count: int, rounds: int) -> None:
    """Captions sorted by length and trimmed, against all of them padded to the context."""
    clip = FrozenClip.load(folder, device="cpu")
    tokens = clip.tokenize_any(captions(count))[0]
    width = float((tokens.argmax(1) + 1).float().mean())
    best = alternate(
        {
            "sorted": lambda: encode_captions(clip, tokens, BATCH),
            "padded": lambda: [padded(clip, chunk) for chunk in tokens.split(BATCH)],
        },
        rounds,
        time.process_time,
    )
    show("text sorted and trimmed, against padded to 77", count, best["sorted"], best["padded"], "CPU s")
    print(f"{'':4}{width:.1f} tokens a caption; ideal {77 / width:.2f}×")


def precision(folder: Path, count: int, rounds: int) -> None:
    """The text tower in bfloat16 against float32, with the error of its states."""
    clips = {name: FrozenClip.load(folder, device="cpu", precision=name) for name in ("fp32", "bf16")}  # type: ignore[arg-type]
    tokens = clips["fp32"].tokenize_any(captions(count))[0]
    ways = {name: lambda clip=clip: encode_captions(clip, tokens, BATCH) for name, clip in clips.items()}
    best = alternate(ways, rounds, time.process_time)
    show("bf16, against fp32", count, best["bf16"], best["fp32"], "CPU s")
    truth, found = (encode_captions(clip, tokens, BATCH).text_states for clip in clips.values())
    error = ((found - truth).norm(dim=1) / truth.norm(dim=1)).mean()
    print(f"{'':4}mean relative error of the text states {error:.2%}")


def pipeline(folder: Path, count: int, workers: int, rounds: int) -> None:
    """Reading, decoding and encoding beside one another, against one after the other."""
    dataset, clip = write(folder / "dataset", count), FrozenClip.load(folder / "clip", device="cpu")
    manifest = load_manifest(dataset)
    reader = open_reader(clip, dataset, manifest, BATCH)
    work = [(shard_name("train", i), shard) for i, shard in enumerate(manifest.splits["train"].shards)]

    def run(processes: int) -> None:
        with open_shards(reader, dataset, work, processes) as shards:
            for shard, pictures in shards:
                encode_shard(clip, shard, pictures, batch_size=BATCH)

    best = alternate({"beside": lambda: run(workers), "after": lambda: run(0)}, rounds, time.perf_counter)
    show(f"{workers} workers, against none", count, best["beside"], best["after"], "s by the clock")


def padded(clip: FrozenClip, tokens: torch.Tensor) -> torch.Tensor:
    """All 77 positions of every caption, as the encoder is usually called."""
    model = clip.model
    with torch.no_grad():
        x = model.token_embedding(tokens) + model.positional_embedding
        return model.ln_final(model.transformer(x, attn_mask=model.attn_mask))


def captions(count: int) -> list[str]:
    """Captions of one-token words, as long as those of the web are."""
    rng = np.random.default_rng(0)
    lengths = np.clip(np.rint(rng.lognormal(np.log(13.5) - 0.18, 0.6, count)), 1, 75).astype(int)
    return [" ".join(rng.choice(["red", "dog", "house", "on", "a", "sky"], length)) for length in lengths]


def write(folder: Path, count: int) -> Path:
    """A dataset of 512² JPEGs with some detail, in shards of 128."""
    rng = np.random.default_rng(0)
    with ShardWriter(folder, "train", 128) as writer:
        for i, caption in enumerate(captions(count)):
            coarse = Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8))
            content = io.BytesIO()
            coarse.resize((512, 512), Image.Resampling.BICUBIC).save(content, "JPEG", quality=90)
            writer.add(Record(f"r{i:06d}", caption, content.getvalue(), {}))
    splits = {"train": Split.of(writer.shards)}
    Manifest(source="img2dataset", seed=0, params_digest="benchmark", splits=splits).save(folder)
    return folder


def alternate(ways: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """The shortest of ``rounds`` runs of each way, after one that is not counted."""
    best = dict.fromkeys(ways, float("inf"))
    for turn in range(rounds + 1):
        for name, way in ways.items():
            started = clock()
            way()
            if turn:
                best[name] = min(best[name], clock() - started)
    return best


def show(what: str, count: int, seconds: float, other: float, unit: str) -> None:
    """One line: both sides for one record, and the ratio."""
    print(f"{what}: {1000 * seconds / count:.2f} and {1000 * other / count:.2f} m{unit}, {other / seconds:.2f}×")


if __name__ == "__main__":
    main()
