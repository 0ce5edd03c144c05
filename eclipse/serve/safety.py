"""Whether a picture may be given out, as a typed outcome: never a silent black picture, never a silent pass."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from eclipse.errors import ConfigError
from eclipse.serve.types import Drawn

log = logging.getLogger(__name__)

GROUP = "eclipse.safety_checkers"
"""Entry point group: each entry names a class, or a function, that makes a :class:`SafetyChecker` without arguments."""
FLAT = 2.0
"""Grey levels: a picture no channel of which has a larger standard deviation is one flat colour to the eye."""


@dataclass(frozen=True)
class Ok:
    """The picture may be given out."""


@dataclass(frozen=True)
class Blocked:
    """The safety checker forbids the picture, or could not judge it."""

    reason: str


@dataclass(frozen=True)
class Degenerate:
    """There is no picture: the numbers were not finite, or nothing is to be seen."""

    reason: str


Outcome: TypeAlias = Ok | Blocked | Degenerate


class SafetyChecker(Protocol):
    """What a package installs under the entry point group :data:`GROUP`. It is called from any thread."""

    def check(self, image: NDArray[np.uint8], prompt: str) -> Outcome:
        """Judge ``image`` uint8 [H, W, 3], made for ``prompt``. An exception counts as :class:`Blocked`."""


def load_checker(name: str | None) -> SafetyChecker | None:
    """The installed checker ``name``, made; None for None.

    A name that is not installed, one that several packages claim, or one that cannot be made is a
    :class:`ConfigError`: a service that was told to check does not start without its checker.
    """
    if name is None:
        return None
    installed = entry_points(group=GROUP)
    found = [entry for entry in installed if entry.name == name]
    if len(found) != 1:
        known = ", ".join(sorted({entry.name for entry in installed})) or "none is installed"
        fault = "is claimed by several packages" if found else f"is not installed ({known})"
        raise ConfigError(f"serve.safety_checker: {name!r} {fault}; install the package that has it, and only that")
    return _made(found[0])


def judge_picture(drawn: Drawn, prompt: str, checker: SafetyChecker | None) -> Outcome:
    """What may become of a finished picture. A checker that fails, or answers anything else, blocks it."""
    if not drawn.finite:
        return Degenerate("the decoder's output was not finite")
    if is_flat(drawn.image):
        return Degenerate("the picture is one flat colour")
    if checker is None:
        return Ok()
    try:
        outcome: object = checker.check(drawn.image, prompt)
    except Exception:
        log.exception("the safety checker failed; the picture is withheld")
        return Blocked("checker failed")
    if not isinstance(outcome, Ok | Blocked | Degenerate):
        log.error("the safety checker answered %s instead of an outcome; the picture is withheld", type(outcome))
        return Blocked("checker failed")
    return outcome


def is_flat(image: NDArray[np.uint8]) -> bool:
    """Whether nothing is to be seen on ``image`` uint8 [H, W, 3]: each channel's deviation is at most :data:`FLAT`."""
    return bool(image.std(axis=(0, 1), dtype=np.float64).max() <= FLAT)


def _made(entry: EntryPoint) -> SafetyChecker:
    try:
        checker = entry.load()()
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"serve.safety_checker: {entry.name} ({entry.value}) cannot be made ({reason})") from error
    if not callable(getattr(checker, "check", None)):
        raise ConfigError(f"serve.safety_checker: {entry.name} ({entry.value}) has no method check(image, prompt)")
    made: SafetyChecker = checker
    return made
