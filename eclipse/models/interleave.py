"""λ-ECLIPSE's interleaving (arXiv 2402.05195, §3.1): pictures among the words of a caption's text states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from eclipse.errors import DataError


def interleave(
    text_states: Tensor, lengths: Tensor, embeds: Tensor, owner: Tensor, start: Tensor, length: Tensor
) -> Tensor:
    """A copy of ``text_states`` in which the tokens of each subject's noun are that subject's image vector.

    ``text_states`` float [ΣL, D], packed, of captions of ``lengths`` int64 [B]; ``embeds`` float [S, P] the subjects'
    projected image vectors, any number for each caption; ``owner`` int64 [S] their captions; ``start`` and ``length``
    int64 [S] their nouns' tokens, BOS being token 0. A noun of several tokens has the vector in all of them.

    Where P is not D, a noun's tokens lie on BOS or EOS or outside the caption, or two nouns of a caption overlap:
    :class:`DataError`.
    """
    _check_sizes(text_states, lengths, embeds)
    lengths, owner, start, length = lengths.cpu(), owner.cpu(), start.cpu(), length.cpu()
    _check_spans(lengths, len(embeds), owner, start, length)
    first = (lengths.cumsum(0) - lengths)[owner] + start
    subject = torch.repeat_interleave(length)
    rows = torch.arange(len(subject)) + (first - (length.cumsum(0) - length))[subject]
    _check_apart(rows, owner[subject])
    device = text_states.device
    return text_states.index_copy(0, rows.to(device), embeds.to(text_states)[subject.to(device)])


def interleave_by_token_id(
    text_states: Tensor, lengths: Tensor, token_ids: Tensor, embeds: Tensor, ids: Sequence[Sequence[int]]
) -> Tensor:
    """Upstream's rule, to reproduce what its published code computes: nouns are found by token id, everywhere.

    ``token_ids`` int64 [ΣL] are the real tokens' ids beside ``text_states`` float [ΣL, D] of captions of ``lengths``
    int64 [B]; ``embeds`` float [K, P] and ``ids``, for each of the K subjects its noun's token ids. Every row of every
    caption whose id is among a noun's ids becomes that subject's vector; later subjects overwrite earlier ones.

    So two different dogs in one caption cannot be, "dog" is also replaced in "hot dog", and a token that two nouns
    share goes to the later one: :func:`interleave` has none of this. Upstream prints a message where a noun is not
    found and goes on without it; here that is a :class:`DataError`, as is P ≠ D.
    """
    _check_sizes(text_states, lengths, embeds)
    if len(token_ids) != len(text_states) or len(ids) != len(embeds):
        raise DataError(
            f"token_ids and ids: {len(token_ids)} and {len(ids)}, but there are {len(text_states)} text states and "
            f"{len(embeds)} subjects"
        )
    device = text_states.device
    vectors, token_ids, result = embeds.to(text_states), token_ids.to(device), text_states.clone()
    for number, noun in enumerate(ids):
        found = torch.isin(token_ids, torch.tensor(list(noun), dtype=torch.int64, device=device))
        if not bool(found.any()):
            raise DataError(f"ids: no caption holds a token of subject {number + 1}; name a noun of the caption")
        result[found] = vectors[number]
    return result


def _check_sizes(text_states: Tensor, lengths: Tensor, embeds: Tensor) -> None:
    if int(lengths.sum()) != len(text_states):
        raise DataError(f"lengths: sum to {int(lengths.sum())}, but there are {len(text_states)} text states")
    if embeds.ndim != 2 or text_states.shape[1] != embeds.shape[1]:
        raise DataError(
            f"text states are {text_states.shape[1]} wide and image vectors {embeds.shape[-1]}; this CLIP's subjects "
            "cannot stand among its text states"
        )


def _check_spans(lengths: Tensor, count: int, owner: Tensor, start: Tensor, length: Tensor) -> None:
    if not len(owner) == len(start) == len(length) == count:
        raise DataError(f"subjects: {count} vectors, {len(owner)} owners, {len(start)} starts, {len(length)} lengths")
    if count and not 0 <= int(owner.min()) <= int(owner.max()) < len(lengths):
        raise DataError(f"owner: {int(owner.min())} to {int(owner.max())}, but there are {len(lengths)} captions")
    bad = ((start < 1) | (length < 1) | (start + length >= lengths[owner])).nonzero()[:, 0]
    if len(bad):
        i = int(bad[0])
        raise DataError(
            f"subject {i + 1}: tokens {int(start[i])} to {int(start[i] + length[i]) - 1}, but the words of caption "
            f"{int(owner[i]) + 1} are tokens 1 to {int(lengths[owner[i]]) - 2}"
        )


def _check_apart(rows: Tensor, owner: Tensor) -> None:
    placed, order = rows.sort()
    twice = (placed.diff() == 0).nonzero()[:, 0]
    if len(twice):
        raise DataError(
            f"caption {int(owner[order[twice[0]]]) + 1}: two subjects stand on the same token; give each its own noun"
        )
