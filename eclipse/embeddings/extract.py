"""Runs the frozen encoders over records: pictures and captions in, checked float32 embeddings out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eclipse.data.manifest import Manifest, open_split
from eclipse.data.records import Record
from eclipse.embeddings.batch import ragged_rows, starts_of
from eclipse.embeddings.pictures import Prepared
from eclipse.embeddings.quantise import Statics, estimate
from eclipse.embeddings.reading import Reader, ReadShard, first_split, read_tokens
from eclipse.embeddings.subjects import EmbeddedSubjects
from eclipse.errors import StoreError
from eclipse.models.clip import FrozenClip, TextEncoding

SAMPLE = 2048
"""Captions that the channel statistics are estimated from."""
BOS_TOLERANCE = {"fp32": 1e-3, "fp16": 1e-2, "bf16": 5e-2}
"""Relative; kernels sum in another order for other batch shapes. An encoder that is not causal is off by far more."""


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


@dataclass(frozen=True)
class Encoded:
    """What the encoder said of one shard, on the CPU and not checked yet."""

    text: TextEncoding
    image_embeds: Tensor
    subjects: EmbeddedSubjects | None


def encode_shard(
    clip: FrozenClip,
    shard: ReadShard,
    pictures: Iterator[Prepared],
    *,
    batch_size: int,
    advance: Callable[[int], object] = lambda n: None,
) -> Encoded:
    """Encode one shard and its ``pictures``, ``batch_size`` records at once; ``advance(n)`` reports progress.

    Results stay on the device until all of them are there: the host does not wait for it after every batch.
    """
    text = encode_captions(clip, shard.tokens, batch_size)
    images: list[Tensor] = []
    edges: list[Tensor] = []
    for _ in range(0, len(shard.records), batch_size):
        made = next(pictures)
        images.append(_encode(clip, made.pictures))
        if made.edges is not None:
            edges.append(_encode(clip, made.edges))
        advance(len(made.pictures))
    found = [_encode(clip, made.pictures) for made in pictures]
    image_embeds, subjects, plan = torch.cat(images).cpu(), None, shard.subjects
    if plan is not None:
        subjects = EmbeddedSubjects(torch.cat(found).cpu(), plan.counts, plan.spans, torch.cat(edges).cpu())
    return Encoded(text, image_embeds, subjects)


def check_encoded(clip: FrozenClip, shard: ReadShard, encoded: Encoded, statics: Statics) -> Embedded:
    """The shard's embeddings without BOS.

    Raises :class:`StoreError`, naming the record, where an embedding is not finite or captions' BOS states differ.
    """
    text, records, where = encoded.text, shard.records, shard.where
    starts = starts_of(text.lengths.numpy())
    _check_finite(records, starts, encoded, where)
    _check_bos(records, text.text_states[starts], statics.bos, BOS_TOLERANCE[clip.precision], where)
    body = text.lengths.numpy() - 1
    states = text.text_states[torch.from_numpy(ragged_rows(starts + 1, body))]
    return Embedded(states, body, text.prompt_embeds, encoded.image_embeds, encoded.subjects)


def encode_captions(clip: FrozenClip, tokens: Tensor, batch_size: int) -> TextEncoding:
    """Encode ``tokens`` int64 [N, context], shortest first to waste the least on padding.

    Results are in the order of ``tokens``, on the CPU.
    """
    lengths = tokens.argmax(1) + 1  # EOS has the largest id
    order = torch.argsort(lengths, stable=True)
    chunks = order.split(batch_size)
    # All of it is asked of the device before any is fetched, so that it is waited for once and not after every batch.
    parts = [clip.encode_text(tokens[chunk]) for chunk in chunks]
    starts = starts_of(lengths.numpy())
    states = torch.empty(int(lengths.sum()), clip.state_dim)
    # Batch by batch to their places: one copy of a shard's states on the device, and one here.
    for chunk, part in zip(chunks, parts, strict=True):
        rows = ragged_rows(starts[chunk.numpy()], lengths.numpy()[chunk.numpy()])
        states[torch.from_numpy(rows)] = part.text_states.cpu()
    prompt_embeds = torch.cat([part.prompt_embeds for part in parts]).cpu()
    return TextEncoding(states, lengths, prompt_embeds[torch.argsort(order)])


def estimate_statics(reader: Reader, dataset: Path, manifest: Manifest) -> Statics:
    """Channel statistics and the BOS state from the first :data:`SAMPLE` captions of the dataset's first split."""
    split = first_split(dataset, manifest)
    records = list(islice(open_split(dataset, split), SAMPLE))
    where = f"{dataset} ({split})"
    tokens, _ = read_tokens(reader, records, where)
    text = encode_captions(reader.clip, tokens, reader.batch_size)
    lengths = text.lengths.numpy()
    starts = starts_of(lengths)
    body = text.text_states[torch.from_numpy(ragged_rows(starts + 1, lengths - 1))]
    bos = text.text_states[0]
    if not (torch.isfinite(body).all() and torch.isfinite(bos).all()):
        raise StoreError(f"{where}: the encoder's text states are not finite; check the weights of {reader.clip.name}")
    return estimate(body, bos)


def _encode(clip: FrozenClip, pictures: NDArray[np.uint8]) -> Tensor:
    """float32 [N, P] on the device, which is not waited for."""
    staged = torch.from_numpy(np.require(pictures, requirements="W"))
    return clip.encode_image(staged.pin_memory() if clip.device.type == "cuda" else staged)


def _check_finite(
    records: Sequence[Record],
    starts: NDArray[np.int64],
    encoded: Encoded,
    where: str,
) -> None:
    text, subjects = encoded.text, encoded.subjects
    bad = {
        "text states": np.searchsorted(starts, _bad_rows(text.text_states), side="right") - 1,
        "prompt_embeds": _bad_rows(text.prompt_embeds),
        "image_embeds": _bad_rows(encoded.image_embeds),
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


def _check_bos(records: Sequence[Record], found: Tensor, bos: Tensor, tolerance: float, where: str) -> None:
    apart = (found - bos.float()).norm(dim=1) / bos.float().norm().clamp_min(1e-12)
    worst = int(apart.argmax())
    if apart[worst] > tolerance:
        raise StoreError(
            f"{where}: record {records[worst].id}: its BOS state differs from the others' by {apart[worst]:.1%}; "
            "the text encoder is not causal, and a prior cannot use it"
        )
