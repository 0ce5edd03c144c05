"""Tiny datasets in the real layout, and a tiny CLIP of the real classes to embed them with."""

import io
import re
from pathlib import Path

import numpy as np
import torch
from open_clip.model import CLIP
from PIL import Image

from eclipse.config import load_params
from eclipse.data.manifest import Manifest, Split
from eclipse.data.masks import encode_mask
from eclipse.data.records import Record
from eclipse.data.shards import ShardWriter
from eclipse.data.subjects import Subject, with_subjects
from eclipse.models.clip import save_clip
from eclipse.stages import embed

PARAMS = Path(__file__).parents[1] / "params.yaml"
SETTINGS = ("store.batch_size=8", "store.tokens=int8")
"""What :func:`embed_small` changes of the committed parameters."""

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
WORDS = ("red", "blue", "star", "circle", "striped", "solid", "on", "a", "white", "background")


def tiny_clip(folder, seed=0):
    torch.manual_seed(seed)
    model = CLIP(**CONFIG).eval()
    with torch.no_grad():
        model.ln_final.bias.normal_()
    save_clip(model, CONFIG, folder / "clip", name="tiny")
    return folder


def records(split, count, seed=0):
    rng = np.random.default_rng([seed, len(split)])
    for i in range(count):
        caption = " ".join(rng.choice(WORDS, rng.integers(1, 20)))
        image = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(image, "PNG")
        yield Record(f"{split}-{i:06d}", caption, image.getvalue(), {"key": f"k{i}"})


def write_dataset(folder, splits, *, shard_size=10, seed=0, source="world"):
    made = {}
    for split, content in splits.items():
        with ShardWriter(folder, split, shard_size) as writer:
            for record in content:
                writer.add(record)
        made[split] = Split.of(writer.shards)
    Manifest(source=source, seed=seed, params_digest="x", splits=made).save(folder)
    return folder


def png(rng, width, height):
    content = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(content, "PNG")
    return content.getvalue()


def annotated(split, count):
    """Records with one to three subjects of several sizes; the nouns are words of the caption, also twice the same."""
    rng = np.random.default_rng([7, len(split)])
    mask = encode_mask(np.eye(32, dtype=np.uint8))
    for record in records(split, count):
        caption = f"{record.caption}, wristwatches on a background"
        words = [m.span() for m in re.finditer(r"\w+", caption)]
        others = len(words) - 4
        picked = sorted(rng.choice(others, min(2, others), replace=False).tolist())[: rng.integers(3)]
        found = []
        for a, b in [words[i] for i in [*picked, others]]:
            found.append((Subject(caption[a:b], (a, b), (0, 0, 32, 32), mask), png(rng, *rng.choice([20, 32], 2))))
        yield with_subjects(record, caption, found)


def small_inputs(base):
    """An annotated dataset of a few shards and a CLIP, as the stage ``embed`` takes them."""
    splits = {"train": annotated("train", 25), "val_seen": annotated("val_seen", 4), "test_seen": []}
    return {"dataset": write_dataset(base / "dataset", splits), "frozen": tiny_clip(base / "frozen")}


def embed_small(folder, inputs, *overrides, name="store"):
    """Run the stage on :func:`small_inputs` into ``folder``/``name``."""
    params = load_params(PARAMS, [*SETTINGS, *overrides])
    return embed.run(params, **inputs, out=folder / name, metrics=folder / f"{name}.json")
