"""Subjects: nouns of a caption that have a picture of their own (λ-ECLIPSE, arXiv 2402.05195, §3.1).

A record carries them as ``meta["subjects"]`` and, in the same order, as the parts ``subject0.png``, ``subject1.png`` …
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from eclipse.data.records import Record
from eclipse.errors import DataError

_REMEDY = "run the annotate stage again"


@dataclass(frozen=True)
class Subject:
    """One noun and what it stands for.

    ``word`` is the noun as it stands in the caption, ``span`` its characters there, half-open. ``box`` (x0, y0, x1, y1;
    upper bounds exclusive) and ``mask`` (run lengths, see :mod:`eclipse.data.masks`) say where it is in the record's
    picture. ``attributes`` holds what is known of it beyond its name; it may be empty.
    """

    word: str
    span: tuple[int, int]
    box: tuple[int, int, int, int]
    mask: dict[str, Any]
    attributes: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as records carry them."""
        return {**asdict(self), "span": list(self.span), "box": list(self.box)}

    @classmethod
    def from_dict(cls, value: Any, where: str) -> Subject:
        """The inverse of :meth:`to_dict`; anything else is a :class:`DataError` that begins with ``where``."""
        if not isinstance(value, dict):
            raise DataError(f"{where}: is {value!r}, not a subject; {_REMEDY}")
        word, attributes = value.get("word"), value.get("attributes", {})
        if not isinstance(word, str) or not word:
            raise DataError(f"{where}.word: is {word!r}, not a noun; {_REMEDY}")
        if not isinstance(attributes, dict):
            raise DataError(f"{where}.attributes: is {attributes!r}, not words by name; {_REMEDY}")
        start, end = _integers(value.get("span"), 2, f"{where}.span")
        x0, y0, x1, y1 = _integers(value.get("box"), 4, f"{where}.box")
        mask = _mask(value.get("mask"), f"{where}.mask")
        height, width = mask["size"]
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise DataError(f"{where}.box: {value['box']} is not inside {width} × {height} pixels; {_REMEDY}")
        return cls(word, (start, end), (x0, y0, x1, y1), mask, {str(k): str(v) for k, v in attributes.items()})


def subjects_of(record: Record) -> list[tuple[Subject, bytes]]:
    """The record's subjects, each with the PNG bytes of its picture; an unannotated record has none.

    Raises :class:`DataError`, naming record and field, if a span does not hold its word, spans overlap, a picture is
    missing or a picture has no subject.
    """
    described = record.meta.get("subjects", [])
    if not isinstance(described, list):
        raise DataError(f"record {record.id}: meta.subjects: is no list; {_REMEDY}")
    found = []
    for i, value in enumerate(described):
        where = f"record {record.id}: meta.subjects[{i}]"
        subject = Subject.from_dict(value, where)
        start, end = subject.span
        if not 0 <= start < end or record.caption[start:end] != subject.word:
            raise DataError(
                f"{where}.span: {start}–{end} of {record.caption!r} does not hold {subject.word!r}; {_REMEDY}"
            )
        if part(i) not in record.extras:
            raise DataError(f"record {record.id}: {part(i)}: the picture of {subject.word!r} is missing; {_REMEDY}")
        found.append((subject, record.extras[part(i)]))
    if part(len(found)) in record.extras:
        raise DataError(f"record {record.id}: {part(len(found))}: a picture without a subject; {_REMEDY}")
    _check_overlap(record, [subject for subject, _ in found])
    return found


def with_subjects(record: Record, caption: str, subjects: Sequence[tuple[Subject, bytes]]) -> Record:
    """``record`` with ``caption`` and ``subjects`` (each with its picture's PNG bytes) instead of those it had.

    Subjects are put in the order of the caption. Raises what :func:`subjects_of` raises.
    """
    ordered = sorted(subjects, key=lambda pair: pair[0].span)
    meta = {**record.meta, "subjects": [subject.to_dict() for subject, _ in ordered]}
    annotated = Record(record.id, caption, record.image, meta, {part(i): png for i, (_, png) in enumerate(ordered)})
    subjects_of(annotated)
    return annotated


def part(index: int) -> str:
    """The name of the tar member that holds the picture of subject ``index``."""
    return f"subject{index}.png"


def _check_overlap(record: Record, subjects: list[Subject]) -> None:
    end, last = 0, ""
    for subject in sorted(subjects, key=lambda s: s.span):
        if subject.span[0] < end:
            raise DataError(f"record {record.id}: meta.subjects: {last!r} and {subject.word!r} overlap; {_REMEDY}")
        end, last = subject.span[1], subject.word


def _integers(value: Any, count: int, where: str) -> list[int]:
    whole = isinstance(value, list | tuple) and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
    if not whole or len(value) != count:
        raise DataError(f"{where}: is {value!r}, not {count} whole numbers; {_REMEDY}")
    return list(value)


def _mask(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not isinstance(value.get("counts"), list):
        raise DataError(f"{where}: is no run-length mask; {_REMEDY}")
    _integers(value.get("size"), 2, f"{where}.size")
    return value
