"""Rendered pictures held in memory for pre-training the frozen models (priors never see these)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from eclipse.data.control import canny
from eclipse.data.crops import crop_on_white
from eclipse.world.captions import caption, edge_caption
from eclipse.world.render import SIZE, render
from eclipse.world.scene import DEFAULT_MIX, Mix, Scene, random_scene, twin

KINDS = ("scene", "edges", "crop")


@dataclass(frozen=True)
class Pool:
    """``images`` uint8 (N, 64, 64, 3); ``scenes`` and ``kinds`` in the same order. 2i and 2i + 1 are twins."""

    images: NDArray[np.uint8]
    scenes: tuple[Scene, ...]
    kinds: tuple[str, ...]

    def caption(self, index: int, rng: np.random.Generator) -> str:
        """A fresh phrasing for picture ``index``, saying only what the picture shows."""
        if self.kinds[index] == "edges":
            return edge_caption(self.scenes[index], rng)
        return caption(self.scenes[index], rng, background=self.kinds[index] == "scene")

    def draw(self, rng: np.random.Generator, size: int) -> NDArray[np.int64]:
        """``size`` indices, the second half being the first half's twins, in the same order."""
        picked = rng.choice(len(self.images) // 2, size // 2, replace=False)
        return np.concatenate([2 * picked, 2 * picked + 1])


def make_pool(
    size: int, seed: int, *, edges: float = 0.0, crops: float = 0.0, mix: Mix = DEFAULT_MIX, twins: bool = True
) -> Pool:
    """Render ``size`` pictures; a share of them as Canny edge maps and as masked crops on white.

    Edge maps and crops let the mini CLIP embed what λ-ECLIPSE feeds it. With ``twins`` picture 2i + 1 is a hard
    negative of picture 2i, of the same kind.
    """
    images = np.empty((size, SIZE, SIZE, 3), np.uint8)
    scenes: list[Scene] = []
    kinds: list[str] = []
    for i in tqdm(range(size), desc="render pool", mininterval=1.0):
        rng = np.random.default_rng([seed, i // 2 if twins else i])
        kind = str(rng.choice(KINDS, p=[1 - edges - crops, edges, crops]))
        scene = random_scene(rng, Mix(1, 0, 0) if kind == "crop" else mix)
        if twins and i % 2:
            scene = (
                crop_twin(scene, rng)
                if kind == "crop"
                else edge_twin(scene, rng)
                if kind == "edges"
                else twin(scene, rng)
            )
        images[i] = _picture(scene, kind, np.random.default_rng([seed, i, 1]))
        scenes.append(scene)
        kinds.append(kind)
    return Pool(images, tuple(scenes), tuple(kinds))


def crop_twin(scene: Scene, rng: np.random.Generator) -> Scene:
    """A twin that still differs when the background and the number of things are gone."""
    return _twin_until(scene, rng, lambda s: s.layout == "single" and s.things != scene.things)


def edge_twin(scene: Scene, rng: np.random.Generator) -> Scene:
    """A twin that still differs when all colour is gone."""

    def outline(s: Scene) -> tuple[object, ...]:
        return (s.layout, *((t.shape, t.texture) for t in s.things))

    return _twin_until(scene, rng, lambda s: outline(s) != outline(scene))


def _twin_until(scene: Scene, rng: np.random.Generator, accept: Callable[[Scene], bool]) -> Scene:
    candidate = twin(scene, rng)
    while not accept(candidate):
        candidate = twin(scene, rng)
    return candidate


def _picture(scene: Scene, kind: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    picture = render(scene, rng)
    if kind == "edges":
        return canny(picture.image)
    if kind == "crop":
        return crop_on_white(picture.image, picture.masks[0], size=SIZE, margin=int(rng.integers(1, 8)))
    return picture.image
