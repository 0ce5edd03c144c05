"""Runs the frozen encoders over records: pictures and captions in, checked float32 embeddings out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eclipse.data.records import Record
from eclipse.embeddings.batch import ragged_rows, starts_of
from eclipse.embeddings.pictures import decode_images
from eclipse.embeddings.quantise import Statics, estimate
from eclipse.embeddings.subjects import EmbeddedSubjects, check_alike, embed_subjects, encode_edges
from eclipse.errors import DataError, StoreError
from eclipse.models.clip import FrozenClip, TextEncoding

BOS_TOLERANCE = 1e-3  # relative; kernels sum in another order for other batch shapes


@dataclass(frozen=True)
class Embedded:
    """N records in their own order, on the CPU.

    ``states`` float32 [ΣL', D] and ``lengths`` int64 [N], both without BOS; ``prompt_embeds`` and ``image_embeds``
    float32 [N, P]; ``subjects`` where the records are annotated.
    """

    states: Tensor
    lengths: NDArray[np.int64]
    prompt_embeds: Tensor
    image_embeds: Tensor
    subjects: EmbeddedSubjects | None = None


def embed_records(
    clip: FrozenClip,
    records: Sequence[Record],
    statics: Statics,
    *,
    batch_size: int,
    where: str,
    annotated: bool = False,
    advance: Callable[[int], object] = lambda n: None,
) -> Embedded:
    """Encode ``records``, a shard that errors call ``where``, ``batch_size`` at once; ``advance(n)`` reports progress.

    If ``annotated``, all of them must have subjects, otherwise none may. Raises :class:`DataError` for that and for a
    picture, caption or subject that cannot be encoded, :class:`StoreError` where an embedding is not finite or
    captions' BOS states differ; each names the record.
    """
    check_alike(records, annotated, where)
    text = embed_captions(clip, records, batch_size=batch_size, where=where)
    images, edges = [], []
    for i in range(0, len(records), batch_size):
        pictures = decode_images(records[i : i + batch_size], where)
        images.append(clip.encode_image(pictures).cpu())
        if annotated:
            edges.append(encode_edges(clip, pictures))
        advance(len(pictures))
    image_embeds, subjects = torch.cat(images), None
    if annotated:
        subjects = embed_subjects(clip, records, torch.cat(edges), batch_size=batch_size, where=where)
    starts = starts_of(text.lengths.numpy())
    _check_finite(records, starts, text, image_embeds, subjects, where)
    _check_bos(records, text.text_states[starts], statics.bos, where)
    body = text.lengths.numpy() - 1
    states = text.text_states[torch.from_numpy(ragged_rows(starts + 1, body))]
    return Embedded(states, body, text.prompt_embeds, image_embeds, subjects)


def embed_captions(clip: FrozenClip, records: Sequence[Record], *, batch_size: int, where: str) -> TextEncoding:
    """Encode the captions, shortest first to waste the least on padding; results in the records' order, on the CPU."""
    tokens = _tokens(clip, records, where)
    order = torch.argsort(tokens.argmax(1), stable=True)
    parts = [clip.encode_text(tokens[chunk]) for chunk in order.split(batch_size)]
    lengths = torch.cat([part.lengths for part in parts]).cpu()
    back = torch.argsort(order)
    rows = ragged_rows(starts_of(lengths.numpy())[back.numpy()], lengths.numpy()[back.numpy()])
    states = torch.cat([part.text_states for part in parts]).cpu()
    prompt_embeds = torch.cat([part.prompt_embeds for part in parts]).cpu()
    return TextEncoding(states[torch.from_numpy(rows)], lengths[back], prompt_embeds[back])


def estimate_statics(clip: FrozenClip, records: Sequence[Record], *, batch_size: int, where: str) -> Statics:
    """Channel statistics and the BOS state from a sample of captions."""
    text = embed_captions(clip, records, batch_size=batch_size, where=where)
    lengths = text.lengths.numpy()
    starts = starts_of(lengths)
    body = text.text_states[torch.from_numpy(ragged_rows(starts + 1, lengths - 1))]
    bos = text.text_states[0]
    if not (torch.isfinite(body).all() and torch.isfinite(bos).all()):
        raise StoreError(f"{where}: the encoder's text states are not finite; check the weights of {clip.name}")
    return estimate(body, bos)


def _tokens(clip: FrozenClip, records: Sequence[Record], where: str) -> Tensor:
    try:
        return clip.tokenize([record.caption for record in records])
    except DataError:
        # Rare, so the culprit is looked for only now.
        for record in records:
            try:
                clip.tokenize([record.caption])
            except DataError as error:
                raise DataError(f"{where}: record {record.id}: {error}") from None
        raise


def _check_finite(
    records: Sequence[Record],
    starts: NDArray[np.int64],
    text: TextEncoding,
    image_embeds: Tensor,
    subjects: EmbeddedSubjects | None,
    where: str,
) -> None:
    bad = {
        "text states": np.searchsorted(starts, _bad_rows(text.text_states), side="right") - 1,
        "prompt_embeds": _bad_rows(text.prompt_embeds),
        "image_embeds": _bad_rows(image_embeds),
    }
    if subjects is not None:
        owner = np.repeat(np.arange(len(records)), subjects.counts)
        bad["subject_embeds"] = owner[_bad_rows(subjects.embeds)]
        bad["control_embeds"] = _bad_rows(subjects.control_embeds)
    for what, culprits in bad.items():
        if len(culprits):
            raise StoreError(
                f"{where}: record {records[int(culprits[0])].id}: {what} hold NaN or infinity; "
                "drop the record or check the encoder's weights"
            )


def _bad_rows(values: Tensor) -> NDArray[np.int64]:
    return (~torch.isfinite(values).all(1)).nonzero()[:, 0].numpy()


def _check_bos(records: Sequence[Record], found: Tensor, bos: Tensor, where: str) -> None:
    apart = (found - bos.float()).norm(dim=1) / bos.float().norm().clamp_min(1e-12)
    worst = int(apart.argmax())
    if apart[worst] > BOS_TOLERANCE:
        raise StoreError(
            f"{where}: record {records[worst].id}: its BOS state differs from the others' by {apart[worst]:.1%}; "
            "the text encoder is not causal, and a prior cannot use it"
        )
