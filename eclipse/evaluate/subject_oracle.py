"""What the oracle says of a prompt's subjects, and of the rest of its caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eclipse.errors import DataError
from eclipse.world.oracle import HEADS
from eclipse.world.scene import PAIRS, Scene

ATTRIBUTES = ("colour", "shape", "texture")
SCORES = (
    *(f"subject_{name}" for name in (*ATTRIBUTES, "background")),
    "concept",
    "rest",
    "both",
    "ccd_concept",
    "ccd_composition",
    "copy_paste",
)

Probabilities = Mapping[str, NDArray[np.float32]]
"""Softmax [N, classes] by head, as :meth:`eclipse.world.oracle.Oracle.probabilities` gives it."""


@dataclass(frozen=True)
class Asked:
    """What a prompt asks for, as the oracle's heads and the word that each should say.

    ``subjects`` has one mapping per subject: what its picture shows. ``rest`` is what the caption says itself: the
    layout, the things that are no subjects, and the background unless that is a subject.
    """

    subjects: tuple[dict[str, str], ...]
    rest: dict[str, str]

    @classmethod
    def of(cls, name: str, meta: Mapping[str, Any]) -> Asked | None:
        """Of the record called ``name``; None where its scene or what its subjects show is not known.

        Raises :class:`DataError` where the two contradict each other or are malformed.
        """
        described = [subject.get("attributes") for subject in meta.get("subjects", [])]
        if "scene" not in meta or not described or not all(described):
            return None
        try:
            whole = _scene_words(Scene.from_dict(meta["scene"]))
            subjects = tuple(_subject_words(attributes) for attributes in described)
            unknown = [word for head, word in whole.items() if word not in HEADS[head]]
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"record {name}: meta.scene or meta.subjects: {error!r}; annotate the dataset again"
            ) from None
        if unknown:
            raise DataError(
                f"record {name}: meta.scene: {unknown[0]!r} is no word of the oracle; write the dataset again"
            )
        for number, subject in enumerate(subjects):
            wrong = [head for head, word in subject.items() if whole.get(head) != word]
            if wrong:
                raise DataError(
                    f"record {name}: meta.subjects[{number}].attributes: {wrong[0]} is not the scene's; "
                    "annotate the dataset again"
                )
        taken = {head for subject in subjects for head in subject}
        return cls(subjects, {head: word for head, word in whole.items() if head not in taken})


def oracle_scores(
    asked: Sequence[Asked | None], shown: Probabilities, real: Probabilities
) -> dict[str, NDArray[np.float64]]:
    """The oracle's scores per prompt, float64 [N], NaN where it asks nothing of the kind; {} if no world is known.

    ``shown`` is the oracle on the decoded pictures, ``real`` on the true ones. docs/evaluation.md says what each is.
    """
    if not any(asked):
        return {}
    table = {name: np.full(len(asked), np.nan) for name in SCORES}
    for i, wanted in enumerate(asked):
        if wanted is None:
            continue
        seen = _seen(shown, i)
        found = {**_concept(wanted, seen), **_copied(wanted, seen)}
        found["rest"] = float(_all_right(wanted.rest, seen))
        found["both"] = float(found["concept"] == 1 and found["rest"] == 1)
        every = [item for subject in wanted.subjects for item in subject.items()]
        found["ccd_concept"] = _deviation(every, shown, real, i)
        found["ccd_composition"] = _deviation(list(wanted.rest.items()), shown, real, i)
        for name, value in found.items():
            table[name][i] = value
    return table


def _scene_words(scene: Scene) -> dict[str, str]:
    things = {f"{name}_{i}": getattr(thing, name) for i, thing in enumerate(scene.things) for name in ATTRIBUTES}
    return {"layout": scene.layout, "background": scene.background, **things}


def _subject_words(attributes: Mapping[str, str]) -> dict[str, str]:
    if attributes["kind"] == "place":
        return {"background": attributes["background"]}
    return {f"{name}_{attributes['slot']}": attributes[name] for name in ATTRIBUTES}


def _seen(shown: Probabilities, i: int) -> dict[str, str]:
    """The oracle's words for picture ``i``; a second thing is only there if it sees a pair."""
    seen = {head: words[int(shown[head][i].argmax())] for head, words in HEADS.items()}
    pair = seen["layout"] in PAIRS
    return {head: word for head, word in seen.items() if pair or not head.endswith("_1")}


def _all_right(wanted: Mapping[str, str], seen: Mapping[str, str]) -> bool:
    return all(seen.get(head) == word for head, word in wanted.items())


def _concept(wanted: Asked, seen: Mapping[str, str]) -> dict[str, float]:
    hits: dict[str, list[bool]] = {}
    for subject in wanted.subjects:
        for head, word in subject.items():
            hits.setdefault(f"subject_{head.partition('_')[0]}", []).append(seen.get(head) == word)
    whole = float(np.mean([_all_right(subject, seen) for subject in wanted.subjects]))
    return {"concept": whole, **{name: float(np.mean(found)) for name, found in hits.items()}}


def _copied(wanted: Asked, seen: Mapping[str, str]) -> dict[str, float]:
    """Whether a single thing with a subject's colour and shape stands where the prompt asks for more than that."""
    things = [_by_attribute(subject) for subject in wanted.subjects if "background" not in subject]
    if wanted.rest["layout"] == "single" or not things:
        return {}
    alone = seen["layout"] == "single"
    same = any(seen["colour_0"] == thing["colour"] and seen["shape_0"] == thing["shape"] for thing in things)
    return {"copy_paste": float(alone and same)}


def _by_attribute(subject: Mapping[str, str]) -> dict[str, str]:
    return {head.partition("_")[0]: word for head, word in subject.items()}


def _deviation(wanted: Sequence[tuple[str, str]], shown: Probabilities, real: Probabilities, i: int) -> float:
    """Mean over ``wanted`` of the oracle's probability of the right word in the true picture minus the decoded one."""
    places = [(head, HEADS[head].index(word)) for head, word in wanted]
    return float(np.mean([float(real[head][i, at]) - float(shown[head][i, at]) for head, at in places]))
