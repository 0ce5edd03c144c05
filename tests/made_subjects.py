"""A small annotated world with random frozen models: the smallest data that λ-ECLIPSE's stages run on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from made_decoder import make_decoder

from eclipse.config import Params
from eclipse.config.load import parse_params
from eclipse.data.images import encode_png
from eclipse.data.manifest import Manifest, Split
from eclipse.data.masks import box, encode_mask
from eclipse.data.records import SPLITS, Record
from eclipse.data.shards import ShardWriter
from eclipse.models.clip import save_clip
from eclipse.stages import embed
from eclipse.world.captions import plain_caption
from eclipse.world.oracle import OracleNet, save_oracle
from eclipse.world.render import render
from eclipse.world.scene import Mix, random_scene
from eclipse.world.subjects import annotate_record

CLIP: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
COUNT = {"train": 6, "val_seen": 3, "val_held_out": 3, "test_seen": 3, "test_held_out": 7}


def tiny_params(evaluate: dict[str, Any] | None = None, **sections: Any) -> Params:
    """Parameters in which everything takes a step; ``evaluate`` changes its section, ``sections`` replace theirs."""
    decode = {"steps": 1, "batch_size": 8, "guidance": 1}
    return parse_params(
        {
            "data": {}, "frozen": {}, "prior": {}, "train": {"steps": 1, "batch_size": 2}, "sweep": {}, "select": {},
            "tracking": {}, "store": {"tokens": "fp16", "image_dtype": "fp32"},
            "evaluate": {"subject_images": 5, "bootstrap": 100, "decode": decode, **(evaluate or {})}, **sections,
        }
    )  # fmt: skip


def make_frozen(folder: Path) -> None:
    """A random CLIP, decoder and oracle."""
    torch.manual_seed(0)
    save_clip(open_clip.model.CLIP(**CLIP), CLIP, folder / "clip")
    make_decoder(folder / "decoder", 16)
    save_oracle(OracleNet(width=4), folder / "oracle")


def make_data(root: Path, frozen: Path, count: dict[str, int], *, known: bool = True) -> None:
    """``root``/dataset with ``count`` records of each split, and its ``root``/store by the CLIP in ``frozen``."""
    (root / "dataset").mkdir(parents=True)
    write_dataset(root / "dataset", count, known=known)
    embed.run(tiny_params(), dataset=root / "dataset", frozen=frozen, out=root / "store", metrics=root / "store.json")


def write_dataset(folder: Path, count: dict[str, int], *, known: bool = True, shift: int = 0) -> None:
    """Annotated scenes; without ``known`` nobody knows what they show. ``shift`` changes the ids alone."""
    splits = {}
    for s, split in enumerate(SPLITS):
        with ShardWriter(folder, split, 100) as writer:
            for i in range(count[split]):
                record = annotate_record(_record(s, i, f"{split}-{i + shift:03d}"), split, 0)
                if not known:
                    meta = {"subjects": [{**subject, "attributes": {}} for subject in record.meta["subjects"]]}
                    record = Record(record.id, record.caption, record.image, meta, record.extras)
                writer.add(record)
        splits[split] = Split.of(writer.shards)
    Manifest(source="world", seed=0, params_digest="0", splits=splits).save(folder)


def _record(s: int, i: int, name: str) -> Record:
    rng = np.random.default_rng([s, i])
    scene = random_scene(rng, Mix(1, 2, 1))
    picture = render(scene, rng)
    objects = [{"box": box(mask), "mask": encode_mask(mask)} for mask in picture.masks]
    return Record(name, plain_caption(scene), encode_png(picture.image), {"scene": scene.to_dict(), "objects": objects})
