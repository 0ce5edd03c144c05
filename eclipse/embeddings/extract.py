"""Runs the frozen encoders over records: pictures and captions in, checked float32 embeddings out."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from eclipse.data.records import Record
from eclipse.embeddings.batch import ragged_rows, starts_of
from eclipse.embeddings.quantise import Statics, estimate
from eclipse.errors import DataError, StoreError
from eclipse.models.clip import FrozenClip, TextEncoding

BOS_TOLERANCE = 1e-3  # relative; kernels sum in another order for other batch shapes


@dataclass(frozen=True)
class Embedded:
    """N records in their own order, on the CPU.

    ``states`` float32 [ΣL', D] and ``lengths`` int64 [N], both without BOS; ``prompt_embeds`` and ``image_embeds``
    float32 [N, P].
    """

    states: Tensor
    lengths: NDArray[np.int64]
    prompt_embeds: Tensor
    image_embeds: Tensor


def embed_records(
    clip: FrozenClip,
    records: Sequence[Record],
    statics: Statics,
    *,
    batch_size: int,
    where: str,
    advance: Callable[[int], object] = lambda n: None,
) -> Embedded:
    """Encode ``records``, a shard that errors call ``where``, ``batch_size`` at once; ``advance(n)`` reports progress.

    Raises :class:`DataError` for a picture or caption that cannot be encoded and :class:`StoreError` where an embedding
    is not finite or captions' BOS states differ; each names the record.
    """
    text = embed_captions(clip, records, batch_size=batch_size, where=where)
    images = []
    for i in range(0, len(records), batch_size):
        batch = records[i : i + batch_size]
        images.append(clip.encode_image(decode_images(batch, where)).cpu())
        advance(len(batch))
    image_embeds = torch.cat(images)
    starts = starts_of(text.lengths.numpy())
    _check_finite(records, starts, text, image_embeds, where)
    _check_bos(records, text.text_states[starts], statics.bos, where)
    body = text.lengths.numpy() - 1
    states = text.text_states[torch.from_numpy(ragged_rows(starts + 1, body))]
    return Embedded(states, body, text.prompt_embeds, image_embeds)


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


def decode_images(records: Sequence[Record], where: str) -> NDArray[np.uint8]:
    """PNG bytes to uint8 [N, H, W, 3]; all of one size, as every dataset stage writes them."""
    images = [_decode(record, where) for record in records]
    for record, image in zip(records, images, strict=True):
        if image.shape != images[0].shape:
            raise DataError(
                f"{where}: record {record.id}: image is {image.shape[1]}×{image.shape[0]}, its neighbours are "
                f"{images[0].shape[1]}×{images[0].shape[0]}; run the dataset stage again"
            )
    return np.stack(images)


def _decode(record: Record, where: str) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(record.image)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{where}: record {record.id}: image cannot be decoded ({error}); replace or drop it") from None


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
    records: Sequence[Record], starts: NDArray[np.int64], text: TextEncoding, image_embeds: Tensor, where: str
) -> None:
    bad_rows = (~torch.isfinite(text.text_states).all(1)).nonzero()[:, 0].numpy()
    bad = {
        "text states": np.searchsorted(starts, bad_rows, side="right") - 1,
        "prompt_embeds": (~torch.isfinite(text.prompt_embeds).all(1)).nonzero()[:, 0].numpy(),
        "image_embeds": (~torch.isfinite(image_embeds).all(1)).nonzero()[:, 0].numpy(),
    }
    for what, culprits in bad.items():
        if len(culprits):
            raise StoreError(
                f"{where}: record {records[int(culprits[0])].id}: {what} hold NaN or infinity; "
                "drop the record or check the encoder's weights"
            )


def _check_bos(records: Sequence[Record], found: Tensor, bos: Tensor, where: str) -> None:
    apart = (found - bos.float()).norm(dim=1) / bos.float().norm().clamp_min(1e-12)
    worst = int(apart.argmax())
    if apart[worst] > BOS_TOLERANCE:
        raise StoreError(
            f"{where}: record {records[worst].id}: its BOS state differs from the others' by {apart[worst]:.1%}; "
            "the text encoder is not causal, and a prior cannot use it"
        )
