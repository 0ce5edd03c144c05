"""Several phrasings for each scene; every caption names every attribute that the picture shows."""

from __future__ import annotations

import numpy as np

from eclipse.world.scene import Scene, Thing

_FIRST = {"left_right": ("left of", "to the left of"), "above_below": ("above", "on top of", "over")}
_SECOND = {"left_right": ("right of", "to the right of"), "above_below": ("below", "under", "beneath")}
_SIDES = {"left_right": ("on the left", "on the right"), "above_below": ("at the top", "at the bottom")}
NUMBERS = {
    "two": ("two", "2", "a pair of"),
    "three": ("three", "3", "a trio of"),
    "four": ("four", "4", "a group of four"),
}


def caption(scene: Scene, rng: np.random.Generator, *, background: bool = True) -> str:
    """One phrasing of ``scene``, drawn at random; without ``background`` only the things are named."""
    body = _body(scene, rng)
    if not background:
        return body
    bg = scene.background
    form = rng.integers(4)
    if form == 0:
        return f"{body} on a {bg} background"
    if form == 1:
        return f"{body} against a {bg} backdrop"
    if form == 2:
        return f"a {bg} background with {body}"
    return f"{body}, {bg} background"


def plain_caption(scene: Scene) -> str:
    """The one canonical phrasing, used where wording must not vary (sheets, fixed prompts)."""
    things = [noun_phrase(t) for t in scene.things]
    if scene.layout in _FIRST:
        body = f"{things[0]} {_FIRST[scene.layout][0]} {things[1]}"
    elif scene.layout == "single":
        body = things[0]
    else:
        body = f"{scene.layout} {plural(scene.things[0])}"
    return f"{body} on a {scene.background} background"


def noun_phrase(thing: Thing) -> str:
    """The thing with its article: "an orange dotted square"."""
    words = f"{thing.colour} {thing.texture} {thing.shape}"
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def plural(thing: Thing) -> str:
    """Several of the thing, without a number: "red solid crosses"."""
    return f"{thing.colour} {thing.texture} {plural_noun(thing.shape)}"


def plural_noun(shape: str) -> str:
    """Several of a shape: "crosses"."""
    return shape + ("es" if shape == "cross" else "s")


def related(layout: str, first: str, second: str, rng: np.random.Generator) -> str:
    """One phrasing of how two described things stand to each other; ``first`` is the left or the upper one."""
    form = rng.integers(4)
    if form == 0:
        return f"{first} {rng.choice(_FIRST[layout])} {second}"
    if form == 1:
        return f"{second} {rng.choice(_SECOND[layout])} {first}"
    here, there = _SIDES[layout]
    if form == 2:
        return f"{first} {here} and {second} {there}"
    return f"{second} {there}, {first} {here}"


def _body(scene: Scene, rng: np.random.Generator) -> str:
    if scene.layout in _FIRST:
        a, b = (varied(t, rng) for t in scene.things)
        return related(scene.layout, a, b, rng)
    if scene.layout == "single":
        lead = rng.choice(("", "", "a picture of ", "there is "))
        return f"{lead}{varied(scene.things[0], rng)}"
    return f"{rng.choice(NUMBERS[scene.layout])} {plural(scene.things[0])}"


def varied(thing: Thing, rng: np.random.Generator) -> str:
    """The thing with all its attributes, in one of three orders: "a square that is dotted"."""
    form = rng.integers(4)
    if form == 3:
        article = "an" if thing.colour[0] in "aeiou" else "a"
        return f"{article} {thing.colour} {thing.shape} that is {thing.texture}"
    if form == 2:
        return f"a {thing.texture} {thing.colour} {thing.shape}"
    return noun_phrase(thing)


def edge_caption(scene: Scene, rng: np.random.Generator) -> str:
    """A caption of the scene's edge map, which shows shape, texture, number and place but no colour."""
    things = [f"a {t.texture} {t.shape}" for t in scene.things]
    if scene.layout in _FIRST:
        body = f"{things[0]} {_FIRST[scene.layout][0]} {things[1]}"
        if rng.integers(2):
            body = f"{things[1]} {_SECOND[scene.layout][0]} {things[0]}"
    elif scene.layout == "single":
        body = things[0]
    else:
        body = f"{scene.layout} {plural(scene.things[0]).split(' ', 1)[1]}"
    return f"{rng.choice(('an edge map of', 'edges of', 'an outline drawing of'))} {body}"
