"""The renderer as annotator: mini-world records whose captions leave to pictures what subjects look like.

λ-ECLIPSE (arXiv 2402.05195, §3.1) needs captions with pictures for some of their nouns. Here such a noun keeps nothing
but its name: "a circle left of a red striped heart on a grey background", with a picture of the circle. What is no
subject stays described in full, so caption and pictures together say everything that the scene shows.
"""

from __future__ import annotations

import hashlib
from string import Formatter
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eclipse.data.crops import crop_on_white
from eclipse.data.images import decode_png, encode_png
from eclipse.data.masks import box, decode_mask, encode_mask
from eclipse.data.records import TRAIN, Record
from eclipse.data.subjects import Subject, with_subjects
from eclipse.errors import ConfigError
from eclipse.world.captions import NUMBERS, plural_noun, related, varied
from eclipse.world.render import SIZE, render
from eclipse.world.scene import BACKGROUNDS, COLOURS, PAIRS, SHAPES, TEXTURES, Scene, Thing, other

PLACE = "place"
_CHOICES: dict[str, tuple[tuple[tuple[str, ...], float], ...]] = {  # which slots are subjects, and how often
    "pair": (
        (("0",), 0.175),
        (("1",), 0.175),
        (("0", "1"), 0.25),
        (("0", PLACE), 0.05),
        (("1", PLACE), 0.05),
        (("0", "1", PLACE), 0.3),
    ),
    "alone": ((("0",), 0.65), (("0", PLACE), 0.35)),
}
"""Half of all scenes being pairs, 50 % of the records have one subject, 35 % two and 15 % three."""
_RIM = 2  # pixels around an object that still show some of its colour
_SALT = 0x5B
_CHOICE, _WORDS, _PICTURE = range(3)


def annotate_record(record: Record, split: str, seed: int) -> Record:
    """``record`` of the mini world recaptioned, with one to three subjects; the same for the same id and ``seed``.

    A thing's picture is its crop on white, a place's the scene with its objects whited out: for training from the
    record's own picture, as in the paper; in the evaluation splits from another rendering, so that copying cannot win.
    Box and mask always say where the subject is in the record's own picture; of copies the picture shows one.

    Raises :class:`ConfigError` for a record that is not the mini world's, or whose caption is another scene's.
    """
    if "scene" not in record.meta or "objects" not in record.meta:
        raise ConfigError(f"record {record.id}: has no scene, as it is not the mini world's; set annotate.by=[models]")
    if "caption_of" in record.meta:
        raise ConfigError(f"record {record.id}: has another scene's caption; subjects need data.world.caption_noise=0")
    scene = Scene.from_dict(record.meta["scene"])
    slots = _choose(scene, _rng(record, seed, _CHOICE))
    caption, spans = recaption(scene, slots, _rng(record, seed, _WORDS))
    image = decode_png(record.image, f"record {record.id}")
    rng = _rng(record, seed, _PICTURE)
    subjects = []
    for slot in slots:
        mask = _mask(scene, slot, record.meta["objects"], rng)
        if split == TRAIN:
            picture = _alone(image, mask, slot)
        else:
            picture = _place_elsewhere(scene, rng) if slot == PLACE else _thing_elsewhere(scene, slot, rng)
        start, end = spans[slot]
        x0, y0, x1, y1 = box(mask)
        known = _attributes(scene, slot)
        subject = Subject(caption[start:end], (start, end), (x0, y0, x1, y1), encode_mask(mask), known)
        subjects.append((subject, encode_png(picture)))
    return with_subjects(record, caption, subjects)


def recaption(scene: Scene, slots: tuple[str, ...], rng: np.random.Generator) -> tuple[str, dict[str, tuple[int, int]]]:
    """One phrasing of ``scene`` in which ``slots`` ("0", "1", "place") are bare nouns, and their characters by slot."""
    ending = str(rng.choice(("background", "backdrop")))
    words = {str(i): thing.shape for i, thing in enumerate(scene.things)} | {PLACE: ending}
    things = [f"a {{{i}}}" if str(i) in slots else varied(thing, rng) for i, thing in enumerate(scene.things)]
    lead = ""
    if scene.layout in PAIRS:
        body = related(scene.layout, things[0], things[1], rng)
    elif scene.layout == "single":
        lead = str(rng.choice(("", "", "a picture of ", "there is ")))
        body = things[0]
    else:
        words["0"] = plural_noun(scene.things[0].shape)
        body = f"{rng.choice(NUMBERS[scene.layout])} {{0}}"
    place = "a {place}" if PLACE in slots else f"a {scene.background} {ending}"
    form = rng.integers(3)
    if form == 0:
        return _fill(f"{lead}{body} on {place}", words)
    if form == 1:
        return _fill(f"{lead}{body} against {place}", words)
    return _fill(f"{lead}{place} with {body}", words)


def _fill(template: str, words: dict[str, str]) -> tuple[str, dict[str, tuple[int, int]]]:
    """``str.format`` that also says which characters each field became."""
    text, spans = "", {}
    for literal, field, _, _ in Formatter().parse(template):
        text += literal
        if field is not None:
            spans[field] = (len(text), len(text) + len(words[field]))
            text += words[field]
    return text, spans


def _choose(scene: Scene, rng: np.random.Generator) -> tuple[str, ...]:
    choices = _CHOICES["pair" if scene.layout in PAIRS else "alone"]
    return choices[int(rng.choice(len(choices), p=[share for _, share in choices]))][0]


def _mask(scene: Scene, slot: str, objects: list[dict[str, Any]], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Where the subject is, uint8 {0, 1} (H, W): the thing, any one of its copies, or all that is no object."""
    masks = [decode_mask(item["mask"]) for item in objects]
    if slot == PLACE:
        return _free(masks)
    return masks[int(slot) if scene.layout in PAIRS else int(rng.integers(len(masks)))]


def _free(masks: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """What no object covers, not even in part."""
    covered = np.max(masks, axis=0)
    return (1 - cv2.dilate(covered, np.ones((2 * _RIM + 1, 2 * _RIM + 1), np.uint8))).astype(np.uint8)


def _alone(image: NDArray[np.uint8], mask: NDArray[np.uint8], slot: str) -> NDArray[np.uint8]:
    if slot == PLACE:
        return np.where(mask[..., None] > 0, image, np.uint8(255))
    return crop_on_white(image, mask, size=SIZE)


def _thing_elsewhere(scene: Scene, slot: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The thing drawn again, on its own, larger and on another background, then cropped."""
    single = Scene("single", (scene.things[int(slot)],), other(BACKGROUNDS, scene.background, rng))
    picture = render(single, rng)
    return crop_on_white(picture.image, picture.masks[0], size=SIZE)


def _place_elsewhere(scene: Scene, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The place drawn again around a thing that shares nothing with those of ``scene``, the thing whited out."""

    def absent(words: tuple[str, ...], name: str) -> str:
        return str(rng.choice([word for word in words if word not in {getattr(t, name) for t in scene.things}]))

    thing = Thing(absent(COLOURS, "colour"), absent(SHAPES, "shape"), absent(TEXTURES, "texture"))
    picture = render(Scene("single", (thing,), scene.background), rng)
    return _alone(picture.image, _free(list(picture.masks)), PLACE)


def _attributes(scene: Scene, slot: str) -> dict[str, str]:
    if slot == PLACE:
        return {"kind": "place", "background": scene.background}
    thing = scene.things[int(slot)]
    return {"kind": "thing", "slot": slot, "colour": thing.colour, "shape": thing.shape, "texture": thing.texture}


def _rng(record: Record, seed: int, purpose: int) -> np.random.Generator:
    name = int.from_bytes(hashlib.sha256(record.id.encode()).digest()[:8], "big")
    return np.random.default_rng([_SALT, seed, name, purpose])
