"""What can be in a scene, and how scenes are drawn at random.

A scene holds one thing, two things in a spatial relation, or two to four copies of one thing, on a plain background.
Every attribute is known exactly, so a picture can be judged against its caption without a person.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
SHAPES = ("circle", "square", "triangle", "diamond", "star", "heart", "cross", "moon")
TEXTURES = ("solid", "striped", "dotted", "checkered")
BACKGROUNDS = ("white", "grey", "black", "beige")
LAYOUTS = ("single", "left_right", "above_below", "two", "three", "four")
PAIRS = ("left_right", "above_below")
COUNTS = {"single": 1, "left_right": 2, "above_below": 2, "two": 2, "three": 3, "four": 4}


@dataclass(frozen=True, order=True)
class Thing:
    """One object's attributes, each a word of the vocabularies above."""

    colour: str
    shape: str
    texture: str


@dataclass(frozen=True, order=True)
class Scene:
    """A scene's content. ``things`` holds the left (or upper) thing first; copies are listed once."""

    layout: str
    things: tuple[Thing, ...]
    background: str

    def key(self) -> str:
        """The combination as one string; two scenes with the same key differ only in jitter and wording."""
        things = "+".join(f"{t.colour}.{t.shape}.{t.texture}" for t in self.things)
        return f"{self.layout}|{things}|{self.background}"

    def pairs(self) -> set[tuple[str, str]]:
        """The (colour, shape) pairs that the scene shows."""
        return {(t.colour, t.shape) for t in self.things}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as records carry them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Scene:
        """The inverse of :meth:`to_dict`."""
        things = tuple(Thing(**thing) for thing in value["things"])
        return cls(value["layout"], things, value["background"])


@dataclass(frozen=True)
class Mix:
    """How often each kind of scene is drawn (weights, not necessarily normalised)."""

    single: float = 0.3
    pair: float = 0.5
    count: float = 0.2


DEFAULT_MIX = Mix()


def random_thing(rng: np.random.Generator) -> Thing:
    """A thing with independent, uniform attributes."""
    return Thing(str(rng.choice(COLOURS)), str(rng.choice(SHAPES)), str(rng.choice(TEXTURES)))


def random_scene(rng: np.random.Generator, mix: Mix = DEFAULT_MIX) -> Scene:
    """Draw a scene; the two things of a pair always differ in colour and in shape, so words bind unambiguously."""
    weights = np.array([mix.single, mix.pair, mix.count])
    kind = rng.choice(3, p=weights / weights.sum())
    background = str(rng.choice(BACKGROUNDS))
    first = random_thing(rng)
    if kind == 0:
        return Scene("single", (first,), background)
    if kind == 2:
        return Scene(str(rng.choice(LAYOUTS[3:])), (first,), background)
    second = random_thing(rng)
    while second.colour == first.colour or second.shape == first.shape:
        second = random_thing(rng)
    return Scene(str(rng.choice(PAIRS)), (first, second), background)


def twin(scene: Scene, rng: np.random.Generator) -> Scene:
    """A hard negative: the same scene with one attribute, or the binding between its two things, changed.

    Half of each contrastive batch being twins of the other half is what makes attribute binding appear early.
    """
    things = list(scene.things)
    choice = rng.integers(6 if len(things) == 2 else 5)
    slot = int(rng.integers(len(things)))
    thing = things[slot]
    if choice == 0:
        things[slot] = Thing(other(COLOURS, thing.colour, rng), thing.shape, thing.texture)
    elif choice == 1:
        things[slot] = Thing(thing.colour, other(SHAPES, thing.shape, rng), thing.texture)
    elif choice == 2:
        things[slot] = Thing(thing.colour, thing.shape, other(TEXTURES, thing.texture, rng))
    elif choice == 3:
        return Scene(scene.layout, scene.things, other(BACKGROUNDS, scene.background, rng))
    elif len(things) == 2:
        exchanges = [swapped(scene, what) for what in ("colour", "shape", "texture", "place")]
        different = [exchange for exchange in exchanges if exchange != scene]
        return different[int(rng.integers(len(different)))]
    else:
        others = (*LAYOUTS[3:], "single")
        return Scene(other(others, scene.layout, rng), scene.things, scene.background)
    return Scene(scene.layout, tuple(things), scene.background)


def swapped(scene: Scene, what: str) -> Scene:
    """The pair ``scene`` with one attribute (or the ``place``) of its two things exchanged."""
    a, b = scene.things
    if what == "place":
        a, b = b, a
    elif what == "colour":
        a, b = Thing(b.colour, a.shape, a.texture), Thing(a.colour, b.shape, b.texture)
    elif what == "shape":
        a, b = Thing(a.colour, b.shape, a.texture), Thing(b.colour, a.shape, b.texture)
    elif what == "texture":
        a, b = Thing(a.colour, a.shape, b.texture), Thing(b.colour, b.shape, a.texture)
    else:
        raise ValueError(f"cannot swap {what!r}: choose colour, shape, texture or place")
    return Scene(scene.layout, (a, b), scene.background)


def other(words: tuple[str, ...], word: str, rng: np.random.Generator) -> str:
    """A word of ``words`` that is not ``word``."""
    return str(rng.choice([w for w in words if w != word]))
