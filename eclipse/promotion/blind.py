"""Blinded A/B: which of two pictures is A is told by a hash, and kept out of the page on which a person picks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eclipse.errors import ConfigError, DataError
from eclipse.promotion.differences import sign_test

CANDIDATE, CHAMPION = "candidate", "champion"
LETTERS = "ABT-"
"""A is better, B is better, a tie, not judged."""


@dataclass(frozen=True)
class BlindKey:
    """``a`` says for each of ``ids`` whose picture is A; ``nonce`` names the sheet that picks belong to."""

    nonce: str
    ids: tuple[str, ...]
    a: tuple[str, ...]

    @classmethod
    def make(cls, ids: Sequence[str], secret: str) -> BlindKey:
        """A key for ``ids``; equal ids and ``secret`` give the same one, so that a sheet can be made again."""
        flips = [hashlib.sha256(f"{secret}\0{name}".encode()).digest()[0] & 1 for name in ids]
        nonce = hashlib.sha256("\0".join([secret, *ids]).encode()).hexdigest()[:8]
        return cls(nonce, tuple(ids), tuple(CHAMPION if flip else CANDIDATE for flip in flips))


@dataclass(frozen=True)
class Tally:
    """What a person picked, names uncovered."""

    candidate: int
    champion: int
    ties: int
    left: int

    def words(self) -> str:
        """In one line, with the two-sided sign test over the pairs that were not ties."""
        judged = self.candidate + self.champion + self.ties
        p = sign_test(self.candidate, self.champion)
        return (
            f"of {judged + self.left} pairs: candidate better {self.candidate}, champion better {self.champion}, "
            f"tie {self.ties}, not judged {self.left}; sign test p = {p:.3f}"
        )


def tally(blind: Mapping[str, Any] | None, picks: str) -> Tally:
    """Uncover ``picks`` (``nonce:letters``, as the page shows it) by the key in review.json.

    Raises :class:`ConfigError` for picks of another sheet or another form, :class:`DataError` for a sheet that is not
    blind.
    """
    if blind is None:
        raise DataError("--picks: the sheet is not blind; make one with `review --blind`")
    nonce, colon, letters = picks.strip().partition(":")
    wanted = len(blind["a"])
    if not colon or len(letters) != wanted or set(letters) - set(LETTERS):
        raise ConfigError(f"--picks {picks}: copy the line from the sheet, {wanted} letters of {LETTERS} after a colon")
    if nonce != blind["nonce"]:
        raise ConfigError(f"--picks {picks}: belongs to another sheet ({nonce} instead of {blind['nonce']})")
    names = [_picked(letter, a) for letter, a in zip(letters, blind["a"], strict=True)]
    return Tally(names.count(CANDIDATE), names.count(CHAMPION), names.count("T"), names.count("-"))


def _picked(letter: str, a: str) -> str:
    if letter not in "AB":
        return letter
    return a if letter == "A" else CHAMPION if a == CANDIDATE else CANDIDATE
