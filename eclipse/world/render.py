"""Draws a scene: 64 × 64 pixels, anti-aliased, deterministic in (scene, generator state)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eclipse.world.scene import COUNTS, Scene, Thing

SIZE = 64
_OVER = 4  # supersampling factor of the anti-aliasing
RGB = {
    "red": (222, 32, 38),
    "orange": (250, 140, 16),
    "yellow": (248, 226, 40),
    "green": (36, 156, 60),
    "cyan": (40, 200, 214),
    "blue": (36, 70, 220),
    "purple": (124, 40, 176),
    "pink": (246, 130, 190),
    "white": (246, 246, 246),
    "grey": (150, 150, 150),
    "black": (16, 16, 16),
    "beige": (226, 204, 160),
}
_LIGHT, _DARK = (250, 250, 250), (30, 30, 30)
_CENTRES = {  # of each layout's objects, in pixels (x, y), and their half size
    "single": (((32, 32),), 23.0),
    "left_right": (((16, 32), (48, 32)), 14.0),
    "above_below": (((32, 16), (32, 48)), 14.0),
    "two": (((16, 32), (48, 32)), 12.5),
    "three": (((16, 17), (48, 17), (32, 47)), 12.5),
    "four": (((16, 16), (48, 16), (16, 48), (48, 48)), 12.5),
}


@dataclass(frozen=True)
class Picture:
    """A rendered scene: ``image`` uint8 (64, 64, 3); one mask uint8 {0, 1} (64, 64) and thing per drawn object."""

    image: NDArray[np.uint8]
    masks: tuple[NDArray[np.uint8], ...]
    things: tuple[Thing, ...]


def render(scene: Scene, rng: np.random.Generator) -> Picture:
    """Draw ``scene`` with small jitter of place, size and shade taken from ``rng``."""
    things = scene.things if len(scene.things) == COUNTS[scene.layout] else scene.things * COUNTS[scene.layout]
    centres, half = _CENTRES[scene.layout]
    canvas = np.empty((SIZE, SIZE, 3), np.float32)
    canvas[:] = _shade(RGB[scene.background], rng)
    masks = []
    spread = 2.5 if scene.layout == "single" else 1.0
    for thing, (x, y) in zip(things, centres, strict=True):
        place = np.array([x, y]) + rng.uniform(-spread, spread, 2)
        masks.append(_draw(canvas, thing, place, half * rng.uniform(0.92, 1.06), rng))
    return Picture(np.rint(canvas).astype(np.uint8), tuple(masks), tuple(things))


def _draw(
    canvas: NDArray[np.float32], thing: Thing, centre: NDArray[np.float64], half: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    x0, y0 = (max(0, int(c - half - 2)) for c in centre)
    x1, y1 = (min(SIZE, int(c + half + 3)) for c in centre)
    x = (np.arange(x0 * _OVER, x1 * _OVER) + 0.5) / _OVER - centre[0]
    y = (np.arange(y0 * _OVER, y1 * _OVER) + 0.5) / _OVER - centre[1]
    u, v = x[None, :] / half, y[:, None] / half
    inside = _inside(thing.shape, u, v)
    rim = ~_inside(thing.shape, u * (1 + 1.8 / half), v * (1 + 1.8 / half))
    first = np.array(_shade(RGB[thing.colour], rng), np.float32)
    luminance = first @ np.array([0.299, 0.587, 0.114], np.float32)
    second = np.array(_DARK if luminance > 125 else _LIGHT, np.float32)
    pattern = _pattern(thing.texture, x[None, :], y[:, None]) & ~rim
    paint = np.where(pattern[..., None], second, first)
    area = canvas[y0:y1, x0:x1]
    cover = _box(inside.astype(np.float32)[..., None])
    area[:] = area * (1 - cover) + _box(np.where(inside[..., None], paint, 0.0).astype(np.float32))
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[y0:y1, x0:x1] = cover[..., 0] >= 0.5
    return mask


def _box(values: NDArray[np.float32]) -> NDArray[np.float32]:
    h, w, c = values.shape
    return values.reshape(h // _OVER, _OVER, w // _OVER, _OVER, c).mean((1, 3))


def _shade(rgb: tuple[int, int, int], rng: np.random.Generator) -> tuple[float, ...]:
    return tuple(np.clip(np.array(rgb) + rng.uniform(-6, 6), 0, 255))


def _inside(shape: str, u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.bool_]:
    if shape == "circle":
        return u * u + v * v <= 0.92
    if shape == "square":
        return (np.abs(u) <= 0.84) & (np.abs(v) <= 0.84)
    if shape == "triangle":
        return (v <= 0.85) & (v >= 2 * np.abs(u) / 1.08 - 0.95)
    if shape == "diamond":
        return np.abs(u) / 0.8 + np.abs(v) <= 1.04
    if shape == "cross":
        return ((np.abs(u) <= 0.34) & (np.abs(v) <= 0.95)) | ((np.abs(v) <= 0.34) & (np.abs(u) <= 0.95))
    if shape == "moon":
        return (u * u + v * v <= 0.95) & ((u - 0.55) ** 2 + v * v > 0.55)
    if shape == "heart":
        a, b = u * 1.2, -v * 1.2 + 0.12
        return (a * a + b * b - 1) ** 3 - a * a * b**3 <= 0
    angle = np.arctan2(u, -v) % (2 * np.pi / 5) - np.pi / 5  # star: five points, one up
    radius = np.hypot(u, v)
    inner, outer = 0.46, 1.05
    tip, notch = np.array([outer, 0.0]), np.array([inner * np.cos(np.pi / 5), inner * np.sin(np.pi / 5)])
    along, across = radius * np.cos(np.pi / 5 - np.abs(angle)), radius * np.sin(np.pi / 5 - np.abs(angle))
    edge = notch - tip
    return (along - tip[0]) * edge[1] - across * edge[0] <= 0


def _pattern(texture: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where the second colour goes, in pixels from the object's centre."""
    if texture == "striped":
        return np.broadcast_to(np.floor(y / 4 + 0.5) % 2 == 1, np.broadcast_shapes(x.shape, y.shape))
    if texture == "dotted":
        dx, dy = (x + 4) % 8 - 4, (y + 4) % 8 - 4
        return dx * dx + dy * dy <= 2.5**2
    if texture == "checkered":
        return (np.floor(x / 5.5) + np.floor(y / 5.5)) % 2 == 1
    return np.zeros(np.broadcast_shapes(x.shape, y.shape), bool)
