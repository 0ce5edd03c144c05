"""Textures that the frozen models have never seen, for measuring what finetuning on a concept adds.

A concept is an ordinary shape in an ordinary colour with a pattern of its own painted on. Nothing else of the mini
world draws these, so neither the CLIP, nor the decoder, nor the oracle knows them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from eclipse.world.render import SIZE, Picture, render
from eclipse.world.scene import BACKGROUNDS, Scene, Thing, random_thing

_OVER = 4  # supersampling factor of the anti-aliasing, as the renderer's
_RIM = np.ones((3, 3), np.uint8)  # the renderer leaves the outline in the thing's own colour too
SEEN, UNSEEN = BACKGROUNDS[:2], BACKGROUNDS[2:]
"""Backgrounds of a concept's own pictures, and of the pictures that it is measured on."""

Floats = NDArray[np.float64]


def _zigzag(x: Floats, y: Floats) -> NDArray[np.int64]:
    wave = 2 * np.abs(np.mod(x, 10) - 5) - 5
    return (np.mod(np.floor((y + wave) / 4.5), 2)).astype(np.int64)


def _rings(x: Floats, y: Floats) -> NDArray[np.int64]:
    return (np.mod(np.floor(np.hypot(x, y) / 3.2), 2)).astype(np.int64)


def _spots(x: Floats, y: Floats) -> NDArray[np.int64]:
    """Dots of one colour and the next in turn, like a chessboard's fields."""
    column, row = np.floor(x / 8 + 0.5), np.floor(y / 8 + 0.5)
    inside = (x - 8 * column) ** 2 + (y - 8 * row) ** 2 <= 3.0**2
    return np.where(inside, 1 + np.mod(column + row, 2), 0).astype(np.int64)


@dataclass(frozen=True)
class Novelty:
    """A concept: ``thing`` (its texture is the nearest known one) with a pattern in the further colours ``paints``.

    ``pattern`` maps pixel coordinates from the thing's centre to 0 (its own colour) or the 1-based number of a paint.
    """

    name: str
    thing: Thing
    pattern: Callable[[Floats, Floats], NDArray[np.int64]]
    paints: tuple[tuple[int, int, int], ...]


NOVELTIES = (
    Novelty("zigzag-star", Thing("orange", "star", "striped"), _zigzag, ((30, 40, 120),)),
    Novelty("ringed-circle", Thing("cyan", "circle", "striped"), _rings, ((150, 20, 60),)),
    Novelty("spotted-heart", Thing("pink", "heart", "dotted"), _spots, ((20, 90, 40), (250, 250, 250))),
)
"""The concepts of the finetuning study."""


def draw_novelty(novelty: Novelty, scene: Scene, rng: np.random.Generator) -> Picture:
    """Render ``scene`` and paint the pattern over its first thing; the jitter is that of ``render(scene, rng)``."""
    solid = Thing(novelty.thing.colour, novelty.thing.shape, "solid")
    picture = render(Scene(scene.layout, (solid, *scene.things[1:]), scene.background), rng)
    mask = picture.masks[0]
    inner = cv2.erode(mask, _RIM)[..., None].astype(np.float64)
    rows, cols = np.nonzero(mask)
    shares = _shares(novelty, (cols.min() + cols.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2) * inner
    paints = np.array(novelty.paints, np.float64)
    image = picture.image * (1 - shares.sum(2, keepdims=True)) + shares @ paints
    return Picture(np.rint(image).astype(np.uint8), picture.masks, picture.things)


def _shares(novelty: Novelty, centre_x: float, centre_y: float) -> Floats:
    """How much of each pixel each paint covers: float64 (64, 64, paints), sums at most 1."""
    at = (np.arange(SIZE * _OVER) + 0.5) / _OVER
    y, x = np.meshgrid(at - centre_y, at - centre_x, indexing="ij")
    index = novelty.pattern(x, y)
    layers = np.stack([index == 1 + i for i in range(len(novelty.paints))], axis=2).astype(np.float64)
    blocks = layers.reshape(SIZE, _OVER, SIZE, _OVER, -1)
    covered: Floats = blocks.mean((1, 3))
    return covered


def own_scenes(novelty: Novelty, count: int) -> list[Scene]:
    """``count`` scenes of the concept alone on :data:`SEEN` backgrounds: what a person would photograph."""
    return [Scene("single", (novelty.thing,), SEEN[i % len(SEEN)]) for i in range(count)]


def other_scenes(novelty: Novelty, count: int, rng: np.random.Generator) -> list[Scene]:
    """``count`` scenes on :data:`UNSEEN` backgrounds, every other one with an ordinary thing beside the concept."""
    scenes = []
    for i in range(count):
        place = UNSEEN[i // 2 % len(UNSEEN)]
        if i % 2 == 0:
            scenes.append(Scene("single", (novelty.thing,), place))
            continue
        second = random_thing(rng)
        while second.colour == novelty.thing.colour or second.shape == novelty.thing.shape:
            second = random_thing(rng)
        scenes.append(Scene("left_right", (novelty.thing, second), place))
    return scenes
