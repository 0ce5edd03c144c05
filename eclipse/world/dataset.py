"""The mini world as a dataset: training scenes, and seen and held-out evaluation scenes that share no combination.

A scene belongs to one split by what it shows, whatever the seed: held-out (colour, shape) pairs never occur in
training, and the other combinations are dealt out by a hash of their key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from eclipse.config.data import DataParams, WorldParams
from eclipse.data.images import encode_png
from eclipse.data.manifest import Manifest, Split, params_digest
from eclipse.data.masks import box, encode_mask
from eclipse.data.records import SPLITS, TRAIN, Record
from eclipse.data.shards import ShardWriter
from eclipse.errors import DataError
from eclipse.files import atomic_folder
from eclipse.world.captions import caption
from eclipse.world.render import Picture, render
from eclipse.world.scene import Mix, Scene, random_scene

VAL_HELD_OUT = (
    ("red", "circle"),
    ("yellow", "triangle"),
    ("green", "diamond"),
    ("blue", "heart"),
    ("cyan", "moon"),
    ("purple", "square"),
)
TEST_HELD_OUT = (
    ("orange", "square"),
    ("red", "diamond"),
    ("yellow", "heart"),
    ("cyan", "star"),
    ("purple", "cross"),
    ("pink", "moon"),
)
HELD_OUT = VAL_HELD_OUT + TEST_HELD_OUT
"""(colour, shape) pairs that no training scene shows; each colour and each shape is lacking one or two partners."""

_SEEN_EVALUATION = 0.15  # of the seen combinations, for each of val_seen and test_seen
_KINDS = (Mix(1, 0, 0), Mix(0, 1, 0), Mix(0, 0, 1))
_PATIENCE = 400  # draws of one kind of scene before it counts as used up and any kind will do
_LIMIT = 20_000  # draws before a split counts as exhausted
_SALT = 0xEC


def split_of(scene: Scene) -> str | None:
    """The split that ``scene`` belongs to; None if it shows pairs held out for validation and for the test."""
    pairs = scene.pairs()
    val, test = not pairs.isdisjoint(VAL_HELD_OUT), not pairs.isdisjoint(TEST_HELD_OUT)
    if val or test:
        return None if val and test else "val_held_out" if val else "test_held_out"
    draw = int.from_bytes(hashlib.sha256(scene.key().encode()).digest()[:7], "big") / 2**56
    if draw < 2 * _SEEN_EVALUATION:
        return "val_seen" if draw < _SEEN_EVALUATION else "test_seen"
    return TRAIN


def draw_scenes(split: str, size: int, seed: int) -> list[Scene]:
    """``size`` scenes of ``split``; a smaller size gives the first of them.

    Training scenes may share a combination (with other jitter and wording); evaluation scenes are all distinct.
    All splits have the same mix of single things, pairs and counts, as long as their combinations last.
    """
    scenes: list[Scene] = []
    keys: set[str] = set()
    mix = Mix()
    weights = np.array([mix.single, mix.pair, mix.count])
    kinds = list(_KINDS)
    for i in range(size):
        rng = _rng(seed, split, i, 0)
        drawn = int(rng.choice(3, p=weights / weights.sum()))
        scene = _draw(rng, kinds[drawn], _PATIENCE, split, keys)
        if scene is None:
            kinds[drawn] = mix
            scene = _draw(rng, mix, _LIMIT, split, keys)
        if scene is None:
            raise DataError(f"data.world.evaluation: {split} has no {size} distinct scenes (only {i}); ask for fewer")
        scenes.append(scene)
        if split != TRAIN:
            keys.add(scene.key())
    return scenes


def _draw(rng: np.random.Generator, mix: Mix, attempts: int, split: str, taken: set[str]) -> Scene | None:
    for _ in range(attempts):
        scene = random_scene(rng, mix)
        if split_of(scene) == split and scene.key() not in taken:
            return scene
    return None


def world_records(params: WorldParams, split: str) -> Iterator[Record]:
    """The records of ``split``: PNG 64 × 64, one phrasing, and the scene with its objects' boxes and masks as metadata.

    ``meta`` holds ``scene``, ``key``, ``objects`` (colour, shape, texture, box, mask as run lengths) and, where caption
    noise gave the picture another scene's caption, ``caption_of``: the id of the record that the caption is about.
    """
    size = params.train if split == TRAIN else params.evaluation
    scenes = draw_scenes(split, size, params.seed)
    owners = _owners(scenes, params) if split == TRAIN else list(range(size))
    for i, scene in enumerate(scenes):
        picture = render(scene, _rng(params.seed, split, i, 1))
        text = caption(scenes[owners[i]], _rng(params.seed, split, owners[i], 2))
        meta: dict[str, Any] = {"scene": scene.to_dict(), "key": scene.key(), "objects": _objects(picture)}
        if owners[i] != i:
            meta["caption_of"] = _id(split, owners[i])
        yield Record(_id(split, i), text, encode_png(picture.image), meta)


def write_world(params: DataParams, out: Path) -> Manifest:
    """Write the whole dataset to the folder ``out`` (about 3 ms a record) and return its manifest."""
    world = params.world
    splits = {}
    with atomic_folder(out) as folder:
        progress = tqdm(total=world.train + 4 * world.evaluation, desc="render world", mininterval=1.0)
        for split in SPLITS:
            with ShardWriter(folder, split, params.shard_size) as writer:
                for record in world_records(world, split):
                    writer.add(record)
                    progress.update()
            splits[split] = Split.of(writer.shards)
        progress.close()
        manifest = Manifest(
            source="world",
            seed=world.seed,
            params_digest=params_digest(params),
            splits=splits,
            held_out=tuple(f"{colour} {shape}" for colour, shape in HELD_OUT),
        )
        manifest.save(folder)
    return manifest


def _owners(scenes: list[Scene], params: WorldParams) -> list[int]:
    """For each scene the position of the one whose caption it gets.

    The chosen ones are put in random order by combination and moved round by the size of the largest combination, so
    no chosen picture gets a caption that is true of it.
    """
    owners = list(range(len(scenes)))
    rng = _rng(params.seed, TRAIN, 0, 3)
    chosen = rng.permutation(len(scenes))[: round(params.caption_noise * len(scenes))].tolist()
    by_key: dict[str, list[int]] = {}
    for i in chosen:
        by_key.setdefault(scenes[i].key(), []).append(i)
    ordered = [i for same in by_key.values() for i in same]
    shift = max((len(same) for same in by_key.values()), default=0)
    for place, i in enumerate(ordered):
        other = ordered[(place + shift) % len(ordered)]
        if scenes[other].key() != scenes[i].key():
            owners[i] = other
    return owners


def _objects(picture: Picture) -> list[dict[str, Any]]:
    return [
        {
            "colour": thing.colour,
            "shape": thing.shape,
            "texture": thing.texture,
            "box": box(mask),
            "mask": encode_mask(mask),
        }
        for thing, mask in zip(picture.things, picture.masks, strict=True)
    ]


def _rng(seed: int, split: str, index: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([_SALT, seed, SPLITS.index(split), index, purpose])


def _id(split: str, index: int) -> str:
    return f"{split}-{index:06d}"
