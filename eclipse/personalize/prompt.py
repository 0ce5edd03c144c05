"""Which words of a prompt stand for which subject pictures: ``dog=dog.png``, ``dog#2=other.png``."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eclipse.errors import DataError

Span = tuple[int, int]
"""Characters of a prompt, half-open."""


@dataclass(frozen=True)
class SubjectArgument:
    """``noun`` as the person wrote it; its ``occurrence`` in the prompt from 1 (None: the only one); its picture."""

    noun: str
    occurrence: int | None
    file: Path

    @property
    def name(self) -> str:
        """What errors and files call it: ``dog`` or ``dog#2``."""
        return self.noun if self.occurrence is None else f"{self.noun}#{self.occurrence}"


def parse_subject(text: str) -> SubjectArgument:
    """``NOUN=FILE``, or ``NOUN#K=FILE`` for the K-th occurrence of the noun in the prompt. Else a :class:`DataError`.

    The noun ends at the first ``=``; it may have several words (``teddy bear=bear.png``).
    """
    left, equals, file = text.partition("=")
    noun, mark, number = left.partition("#")
    noun = " ".join(clean(noun).split())
    if not (equals and noun and file.strip()):
        raise DataError(f"--subject {text!r}: write NOUN=FILE, such as dog=dog.png")
    if mark and not (number.strip().isdecimal() and int(number) > 0):
        raise DataError(f"--subject {text!r}: after # comes which occurrence, such as {noun}#2={file}")
    return SubjectArgument(noun, int(number) if mark else None, Path(file.strip()))


def clean(prompt: str) -> str:
    """The prompt in Unicode's composed form, as the tokenizer will see it, without space around it."""
    return unicodedata.normalize("NFC", prompt).strip()


def resolve(prompt: str, subjects: Sequence[SubjectArgument], *, limit: int) -> list[Span]:
    """The characters of ``prompt`` that each subject stands for, in the order of ``subjects``.

    A noun is found as a whole word, whatever its case; a hyphenated word is one word. Where it does not occur as it
    is written, its plain plural (with s or es) is looked for, so ``dog`` finds "dogs", and ``dog`` and ``dogs`` may
    be two subjects of one prompt.

    Raises :class:`DataError` for a noun that is not there (with the words that are), one that occurs several times
    and does not say which, words given to two subjects, and more subjects than ``limit``, the most that a prior was
    trained with.
    """
    if not prompt.strip():
        raise DataError("--prompt: is empty; describe the picture")
    if len(subjects) > limit:
        raise DataError(
            f"--subject: {len(subjects)} subjects, but priors are trained with up to {limit} "
            "(annotate.filters.subjects); leave some out"
        )
    spans: list[Span] = []
    for subject in subjects:
        span = _find(prompt, subject)
        for other, taken in zip(subjects, spans, strict=False):
            if span[0] < taken[1] and taken[0] < span[1]:
                words = prompt[min(span[0], taken[0]) : max(span[1], taken[1])]
                raise DataError(
                    f"--subject {other.name}, {subject.name}: both stand for {words!r}; give it one picture"
                )
        spans.append(span)
    return spans


def _find(prompt: str, subject: SubjectArgument) -> Span:
    found = _occurrences(prompt, subject.noun, "") or _occurrences(prompt, subject.noun, "(?:s|es)")
    if not found:
        raise DataError(f"--subject {subject.name}: not in the prompt; it could be {', '.join(_words(prompt))}")
    count = len(found)
    first = f"{subject.noun}#1"
    if subject.occurrence is None and count > 1:
        raise DataError(
            f"--subject {subject.name}: occurs {count} times in the prompt; say which by writing "
            f"{first}{' or' if count == 2 else ' …'} {subject.noun}#{count}"
        )
    if subject.occurrence is not None and subject.occurrence > count:
        times = "once" if count == 1 else f"{count} times"
        raise DataError(f"--subject {subject.name}: occurs {times} in the prompt; count from {first}")
    return found[(subject.occurrence or 1) - 1]


def _occurrences(prompt: str, noun: str, ending: str) -> list[Span]:
    words = r"\s+".join(re.escape(word) for word in noun.split())
    return [match.span() for match in re.finditer(rf"(?<![\w-]){words}{ending}(?![\w-])", prompt, re.IGNORECASE)]


def _words(prompt: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r"\w[\w-]*", prompt)))
