"""The finetuning study: concepts with new textures, before and after, and everything else before and after.

Held-out pictures of a concept stand on backgrounds that its training pictures do not show, every other one beside an
ordinary thing, so repeating the training pictures wins nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from eclipse.config.decoder import DecoderParams
from eclipse.config.params import DecodeParams
from eclipse.config.subjects import FinetuneParams
from eclipse.evaluate.bootstrap import estimate, paired_difference
from eclipse.evaluate.judge import Judge
from eclipse.models.clip import FrozenClip
from eclipse.models.decoder import Decoder, decoder_folder, load_decoder
from eclipse.models.device import pick
from eclipse.personalize.finetune_data import Concept
from eclipse.personalize.finetune_measure import CONCEPT_METRICS, SCENE_METRICS, Examples, Measure, Scores
from eclipse.personalize.finetune_save import Source, finetune_decoder
from eclipse.world.novel import NOVELTIES, Novelty, draw_novelty, other_scenes, own_scenes
from eclipse.world.render import render
from eclipse.world.scene import TEXTURES, Mix, Scene, Thing, random_scene

_SEED = 20_402  # of the study's pictures; nothing else in the project draws from it
_MEMORY = DecoderParams(precision="fp32")  # as it is finetuned
_SCENES = Mix(single=0.5, pair=0.5, count=0.0)
TITLE = "Does finetuning the decoder teach a concept, and does it forget others?"
COLUMNS = ["setting", "concepts", "of", "metric", "before", "after", "difference"]
ALONE, TOGETHER = "alone", "together"
_HELD_OUT = {"single": slice(0, None, 2), "beside": slice(1, None, 2)}  # as other_scenes alternates them


@dataclass(frozen=True)
class Shown:
    """What the figure shows: per column a title and one picture uint8 [64, 64, 3] per row."""

    rows: tuple[str, ...]
    columns: dict[str, list[NDArray[np.uint8]]]


@dataclass(frozen=True)
class _World:
    """The study's pictures: what is trained on, the true held-out ones, and ordinary scenes with their z_x."""

    concepts: dict[str, Concept]
    truth: dict[str, Examples]
    scenes: list[Scene]
    scene_embeds: NDArray[np.float32]


def run_study(settings: FinetuneParams, decode: DecodeParams, frozen: Path, work: Path) -> tuple[dict[str, Any], Shown]:
    """Finetune each concept alone and all together, at the paper's learning rate and a stronger one, and measure.

    Finished decoders are kept in ``work``, so a stopped study goes on. Together takes as many steps per concept as
    alone. Returns the results and what the figure shows.
    """
    clip = FrozenClip.load(frozen / "clip")
    measure = Measure(Judge.load(clip, frozen), decode)
    source = Source(clip, decoder_folder(frozen))
    world = _make_world(settings, clip)
    before = _Before.of(load_decoder(source.decoder, _MEMORY, device=pick()), measure, world)
    rows, columns = [], dict(before.columns)
    for label, chosen, steps in _variants(settings):
        found = {
            key: _after(world, names, source, measure, chosen, steps, work / f"{label}-{key}")
            for key, names in tqdm(_models(world).items(), desc=label)
        }
        for mode in (ALONE, TOGETHER):
            after = {name: found[name if mode == ALONE else TOGETHER] for name in world.concepts}
            rows += _rows(label, mode, before, after, settings.study.bootstrap)
            columns[f"{label}\n{mode}"] = [after[name].images[name][i] for name in world.concepts for i in (0, 1)]
    names = tuple(name for name in world.concepts for _ in (0, 1))
    results = {"title": TITLE, "columns": COLUMNS, "settings": _told(settings), "rows": rows}
    return results, Shown(names, columns)


def _variants(settings: FinetuneParams) -> list[tuple[str, FinetuneParams, int]]:
    study = settings.study
    stronger = settings.model_copy(update={"lr": study.stronger_lr})
    return [("paper", settings, study.steps), ("stronger", stronger, study.stronger_steps)]


def _models(world: _World) -> dict[str, list[str]]:
    return {**{name: [name] for name in world.concepts}, TOGETHER: list(world.concepts)}


def _told(settings: FinetuneParams) -> dict[str, Any]:
    chosen = [
        {"setting": label, "lr": params.lr, "steps_per_concept": steps} for label, params, steps in _variants(settings)
    ]
    return {"variants": chosen, "pictures_per_step": settings.batch_size * settings.accumulate} | {
        name: getattr(settings.study, name) for name in ("pictures", "others", "scenes")
    }


def _make_world(settings: FinetuneParams, clip: FrozenClip) -> _World:
    concepts, truth = {}, {}
    for number, novelty in enumerate(NOVELTIES):
        rng = np.random.default_rng([_SEED, number])
        own = [draw_novelty(novelty, scene, rng).image for scene in own_scenes(novelty, settings.study.pictures)]
        names = {f"{i}": hashlib.sha256(image.tobytes()).hexdigest() for i, image in enumerate(own)}
        concepts[novelty.name] = Concept(novelty.name, tuple(own), names)
        truth[novelty.name] = _examples(novelty, other_scenes(novelty, settings.study.others, rng), number, clip)
    rng = np.random.default_rng([_SEED, len(NOVELTIES)])
    scenes = [random_scene(rng, _SCENES) for _ in range(settings.study.scenes)]
    embeds = clip.encode_image(np.stack([render(scene, rng).image for scene in scenes])).cpu().numpy()
    return _World(concepts, truth, scenes, embeds)


def _examples(novelty: Novelty, scenes: Sequence[Scene], number: int, clip: FrozenClip) -> Examples:
    """Pictures of ``scenes`` and of their look-alikes in ordinary textures, with the very same jitter."""
    images, rivals = [], []
    for i, scene in enumerate(scenes):
        key = [_SEED, number, i]
        images.append(draw_novelty(novelty, scene, np.random.default_rng(key)).image)
        ordinary = [Thing(novelty.thing.colour, novelty.thing.shape, texture) for texture in TEXTURES]
        alike = [Scene(scene.layout, (thing, *scene.things[1:]), scene.background) for thing in ordinary]
        rivals.append(np.stack([render(other, np.random.default_rng(key)).image for other in alike]))
    true = np.stack(images)
    return Examples(true, clip.encode_image(true).cpu().numpy(), np.stack(rivals))


@dataclass(frozen=True)
class _Measured:
    """Of one decoder: by concept its pictures and scores, and the scores of ordinary scenes."""

    images: dict[str, NDArray[np.uint8]]
    concepts: dict[str, Scores]
    scenes: Scores

    @classmethod
    def of(cls, decoder: Decoder, measure: Measure, world: _World, names: Sequence[str]) -> _Measured:
        images = {name: measure.decode(decoder, world.truth[name].embeds) for name in names}
        concepts = {name: measure.concept(decoder, images[name], world.truth[name]) for name in names}
        return cls(images, concepts, measure.scenes(decoder, world.scene_embeds, world.scenes))


@dataclass(frozen=True)
class _Before:
    """The decoder as it was, and the figure's first columns."""

    measured: _Measured
    columns: dict[str, list[NDArray[np.uint8]]]

    @classmethod
    def of(cls, decoder: Decoder, measure: Measure, world: _World) -> _Before:
        measured = _Measured.of(decoder, measure, world, list(world.concepts))
        true = [world.truth[name].images[i] for name in world.concepts for i in (0, 1)]
        drawn = [measured.images[name][i] for name in world.concepts for i in (0, 1)]
        trained = [world.concepts[name].images[i] for name in world.concepts for i in (0, -1)]
        return cls(measured, {"trained on": trained, "held out": true, "before": drawn})


def _after(
    world: _World, names: list[str], source: Source, measure: Measure, settings: FinetuneParams, steps: int, out: Path
) -> _Measured:
    concepts = [world.concepts[name] for name in names]
    total = steps * len(names)
    finetune_decoder(concepts, source, settings, steps=total, seed=0, out=out, checkpoints=out.parent / "states")
    return _Measured.of(load_decoder(out, _MEMORY, device=pick()), measure, world, names)


def _rows(label: str, mode: str, before: _Before, after: dict[str, _Measured], count: int) -> list[dict[str, Any]]:
    """One row per metric: its mean before and after with the paired difference over the same pictures."""
    old = before.measured
    rows = []
    for (of, which), metric in product(_HELD_OUT.items(), CONCEPT_METRICS):
        a = np.concatenate([after[name].concepts[name][metric][which] for name in after])
        b = np.concatenate([old.concepts[name][metric][which] for name in after])
        rows.append({"setting": label, "concepts": mode, "of": of, "metric": metric, **_compared(a, b, count)})
    for metric in SCENE_METRICS:
        # Alone, three decoders draw every scene: their mean, so that a scene still counts once.
        a = np.mean([measured.scenes[metric] for measured in after.values()], axis=0)
        shared = {"setting": label, "concepts": mode, "of": "scenes", "metric": metric}
        rows.append({**shared, **_compared(a, old.scenes[metric], count)})
    return rows


def _compared(after: NDArray[np.float64], before: NDArray[np.float64], count: int) -> dict[str, Any]:
    values = {
        "before": estimate(before, count=count),
        "after": estimate(after, count=count),
        "difference": paired_difference(after, before, count=count),
    }
    return {name: value.to_dict() for name, value in values.items() if value is not None}
