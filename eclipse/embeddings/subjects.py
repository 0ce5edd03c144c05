"""Runs the frozen encoders over what annotation adds to records: subject pictures, their nouns' tokens, edge maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eclipse.data.records import Record
from eclipse.data.subjects import Subject, subjects_of
from eclipse.embeddings.pictures import decode_picture, picture_size
from eclipse.errors import DataError
from eclipse.models.clip import FrozenClip


@dataclass(frozen=True)
class EmbeddedSubjects:
    """The S subjects of N records, record after record, and the records' edges; on the CPU.

    ``embeds`` float32 [S, P]; ``counts`` int64 [N]: subjects of each record; ``spans`` int64 [S, 2]: first token (BOS
    is 0) and number of tokens; ``control_embeds`` float32 [N, P]: the Canny maps of the records' own pictures.
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


def embed_subjects(
    clip: FrozenClip, records: Sequence[Record], control_embeds: Tensor, *, batch_size: int, where: str
) -> EmbeddedSubjects:
    """Encode the subjects of ``records``, a shard that errors call ``where``; ``control_embeds`` come along.

    Raises :class:`DataError` for an annotation that is wrong, a noun that cuts a token and a picture that cannot be
    read; each names the record.
    """
    pictures, names, spans, counts = [], [], [], []
    for record in records:
        found = _subjects_of(record, where)
        counts.append(len(found))
        for i, (subject, picture) in enumerate(found):
            pictures.append(picture)
            names.append(f"{where}: record {record.id}: subject{i}.png")
            spans.append(_token_span(clip, record, subject, where))
    embeds = _encode_pictures(clip, pictures, names, batch_size)
    return EmbeddedSubjects(embeds, np.array(counts, np.int64), np.array(spans, np.int64), control_embeds)


def encode_edges(clip: FrozenClip, pictures: NDArray[np.uint8]) -> Tensor:
    """float32 [N, P] on the CPU: the embeddings of the Canny maps of ``pictures`` uint8 [N, H, W, 3]."""
    from eclipse.data.control import canny  # OpenCV, which text-only data does not need

    return clip.encode_image(np.stack([canny(picture) for picture in pictures])).cpu()


def _encode_pictures(clip: FrozenClip, pictures: Sequence[bytes], names: Sequence[str], batch_size: int) -> Tensor:
    """float32 [S, P] of PNG files of any sizes: those of one size together, ``batch_size`` decoded at once."""
    of_size: dict[tuple[int, int], list[int]] = {}
    for i, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        of_size.setdefault(picture_size(picture, name), []).append(i)
    embeds = torch.empty(len(pictures), clip.projection_dim)
    for alike in of_size.values():
        for first in range(0, len(alike), batch_size):
            chunk = alike[first : first + batch_size]
            images = np.stack([decode_picture(pictures[i], names[i]) for i in chunk])
            embeds[chunk] = clip.encode_image(images).cpu()
    return embeds


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
