"""The ragged subject part of a store: every record's own number of subject vectors and noun spans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eclipse.embeddings.batch import Subjects, ragged_rows


class SubjectRows:
    """The subjects and edge embeddings of a split's ``shards`` (tensors as mapped), found by record."""

    def __init__(self, shards: Sequence[dict[str, Tensor]]) -> None:
        self._embeds = [shard["subject_embeds"].numpy() for shard in shards]
        self._spans = [shard["subject_spans"].numpy() for shard in shards]
        self._control = [shard["control_embeds"].numpy() for shard in shards]
        offsets = [shard["subject_offsets"].numpy() for shard in shards]
        self._starts = np.concatenate([o[:-1] for o in offsets])
        self._counts = np.concatenate([np.diff(o) for o in offsets])

    def read(
        self, index: NDArray[np.int64], shard: NDArray[np.int64], local: NDArray[np.int64]
    ) -> tuple[Subjects, Tensor]:
        """Subjects and control_embeds [B, P], both in the type they are stored in, of the records at ``index`` [B].

        ``shard`` and ``local`` int64 [B]: the shard that each of them lies in, and its number there.
        """
        counts = self._counts[index]
        rows, owner = ragged_rows(self._starts[index], counts), np.repeat(np.arange(len(index)), counts)
        spans = torch.from_numpy(_gather(self._spans, shard[owner], rows))
        embeds = torch.from_numpy(_gather(self._embeds, shard[owner], rows))
        subjects = Subjects(embeds, torch.from_numpy(owner), spans[:, 0].contiguous(), spans[:, 1].contiguous())
        return subjects, torch.from_numpy(_gather(self._control, shard, local))


def _gather(arrays: Sequence[NDArray[Any]], which: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[Any]:
    """``arrays[which[i]][rows[i]]`` for every i, with one indexing for each array that is needed."""
    gathered = np.empty((len(rows), *arrays[0].shape[1:]), arrays[0].dtype)
    order = np.argsort(which, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(which[order])) + 1):
        if len(part):
            gathered[part] = arrays[which[part[0]]][rows[part]]
    return gathered
