"""Runs the frozen encoders over what annotation adds to records: subject pictures, their nouns' tokens, edge maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from eclipse.data.records import Record
from eclipse.data.subjects import Subject, part, subjects_of
from eclipse.errors import DataError
from eclipse.models.clip import FrozenClip


@dataclass(frozen=True)
class SubjectPlan:
    """The S subjects of N records, record after record, before any is encoded.

    ``pictures`` are files' bytes and ``names`` what errors call them, S of each; ``counts`` int64 [N]: subjects of each
    record; ``spans`` int64 [S, 2]: first token (BOS is 0) and number of tokens of each noun.
    """

    pictures: tuple[bytes, ...]
    names: tuple[str, ...]
    counts: NDArray[np.int64]
    spans: NDArray[np.int64]


@dataclass(frozen=True)
class EmbeddedSubjects:
    """The S subjects of N records, record after record, and the records' edges; on the CPU.

    ``embeds`` float32 [S, P]; ``counts`` and ``spans`` as in the plan; ``control_embeds`` float32 [N, P]: the Canny
    maps of the records' own pictures.
    """

    embeds: Tensor
    counts: NDArray[np.int64]
    spans: NDArray[np.int64]
    control_embeds: Tensor


def is_annotated(record: Record) -> bool:
    """Whether ``record`` came with subject pictures."""
    return bool(record.extras)


def check_alike(records: Sequence[Record], annotated: bool, where: str) -> None:
    """Refuse (:class:`DataError`) records of which only some have subjects, naming the first that differs."""
    for record in records:
        if is_annotated(record) != annotated:
            has, others = ("no subjects", "have some") if annotated else ("subjects", "have none")
            raise DataError(
                f"{where}: record {record.id}: has {has}, but the dataset's first records {others}; annotate all "
                "records or none (the annotate stage)"
            )


def plan_subjects(clip: FrozenClip, records: Sequence[Record], where: str) -> SubjectPlan:
    """Find the subjects of ``records``, a shard that errors call ``where``, and their nouns' tokens.

    Raises :class:`DataError` for an annotation that is wrong and a noun that cuts a token; each names the record.
    """
    pictures, names, spans, counts = [], [], [], []
    for record in records:
        found = _subjects_of(record, where)
        counts.append(len(found))
        for i, (subject, picture) in enumerate(found):
            pictures.append(picture)
            names.append(f"{where}: record {record.id}: {part(i)}")
            spans.append(_token_span(clip, record, subject, where))
    return SubjectPlan(tuple(pictures), tuple(names), np.array(counts, np.int64), np.array(spans, np.int64))


def _subjects_of(record: Record, where: str) -> list[tuple[Subject, bytes]]:
    try:
        found = subjects_of(record)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    if not found:
        raise DataError(f"{where}: record {record.id}: has subject pictures but lists no subjects; annotate it again")
    return found


def _token_span(clip: FrozenClip, record: Record, subject: Subject, where: str) -> tuple[int, int]:
    try:
        return clip.token_span(record.caption, subject.span)
    except DataError as error:
        raise DataError(f"{where}: record {record.id}: {error}") from None
