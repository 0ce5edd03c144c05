"""Nouns of captions by a spaCy pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from eclipse.annotate.interfaces import Noun
from eclipse.errors import ConfigError

_TAGS = {"NOUN", "PROPN"}


class SpacyNouns:
    """Runs of NOUN and PROPN tokens: "fire hydrant" is one noun, "a dog and a hat" has two.

    Where the pipeline parses, a run ends with its noun chunk, so that neighbours that belong to two things stay two.
    """

    def __init__(self, name: str) -> None:
        try:
            import spacy
        except ImportError:
            raise ConfigError(
                "annotate.models.nouns: spaCy is not installed; run pip install eclipse-priors[annotate]"
            ) from None
        try:
            self._pipeline = spacy.load(name)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(
                f"annotate.models.nouns: {name} cannot be loaded ({reason}); run python -m spacy download {name}"
            ) from None
        self._name = name

    def nouns(self, captions: Sequence[str]) -> list[list[Noun]]:
        """Each caption's nouns in its order; a pipeline without part-of-speech tags is a :class:`ConfigError`."""
        return [list(self._of(doc)) for doc in self._pipeline.pipe(captions)]

    def _of(self, doc: Any) -> Iterator[Noun]:
        if len(doc) and not doc.has_annotation("POS"):
            raise ConfigError(f"annotate.models.nouns: {self._name} tags no parts of speech; name one with a tagger")
        chunk = _chunks(doc)
        run: list[Any] = []
        for token in doc:
            if run and (token.pos_ not in _TAGS or chunk[token.i] != chunk[run[-1].i]):
                yield from _noun(doc.text, run)
                run = []
            if token.pos_ in _TAGS:
                run.append(token)
        yield from _noun(doc.text, run)


def _chunks(doc: Any) -> list[int]:
    """For each token the number of its noun chunk; -1 outside of all, and everywhere if nothing was parsed."""
    chunk = [-1] * len(doc)
    if doc.has_annotation("DEP"):
        for number, found in enumerate(doc.noun_chunks):
            chunk[found.start : found.end] = [number] * (found.end - found.start)
    return chunk


def _noun(text: str, run: list[Any]) -> Iterator[Noun]:
    """The run as a noun, unless it is no word or begins or ends inside one (CLIP's tokens could not be told apart)."""
    if not run:
        return
    start, end = run[0].idx, run[-1].idx + len(run[-1].text)
    inside = text[start - 1 : start].isalnum() or text[end : end + 1].isalnum()
    if not inside and any(letter.isalpha() for letter in text[start:end]):
        yield Noun(text[start:end], (start, end))
