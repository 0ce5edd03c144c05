"""Parts of ragged batches, and the check that all of their numbers are numbers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from eclipse.embeddings.batch import Batch, Subjects
from eclipse.errors import TrainingError


def cut(batch: Batch, rows: slice) -> Batch:
    """Samples ``rows`` of a ragged batch."""
    if rows.start == 0 and rows.stop == len(batch.lengths):
        return batch
    ends = batch.lengths.cumsum(0).tolist()
    first = ends[rows.start - 1] if rows.start else 0
    texts = batch.text_states[first : ends[rows.stop - 1]]
    subjects = None if batch.subjects is None else _cut_subjects(batch.subjects, rows)
    control = None if batch.control_embeds is None else batch.control_embeds[rows]
    return Batch(texts, batch.lengths[rows], batch.prompt_embeds[rows], batch.image_embeds[rows], subjects, control)


def _cut_subjects(subjects: Subjects, rows: slice) -> Subjects:
    """The subjects of samples ``rows``; ``owner`` ascends, so they lie together."""
    first, last = torch.searchsorted(subjects.owner, torch.tensor([rows.start, rows.stop])).tolist()
    own = slice(first, last)
    return Subjects(subjects.embeds[own], subjects.owner[own] - rows.start, subjects.start[own], subjects.length[own])


def check_finite(batch: Batch, records: np.ndarray, step: int) -> None:
    """Refuse a batch with NaN or infinity in it, naming the ``records`` (int64 [B]) that hold them."""
    values = _values(batch)
    if torch.isfinite(torch.stack([rows.sum() for rows, _ in values.values()]).sum()):
        return
    for name, (rows, owner) in values.items():
        bad = ~torch.isfinite(rows).all(dim=1).cpu()
        if owner is not None:
            bad = torch.bincount(owner[bad], minlength=len(batch)) > 0
        if bad.any():
            raise TrainingError(
                f"step {step + 1}: {name} of records {some(records[bad.numpy()])} (rows of the training split) "
                "is not finite; delete the store and run the stage embed again"
            )


def _values(batch: Batch) -> dict[str, tuple[Tensor, Tensor | None]]:
    """What a batch holds: float tensors by rows, and the sample of each row where rows are not samples."""
    texts = torch.arange(len(batch)).repeat_interleave(batch.lengths.cpu())
    values: dict[str, tuple[Tensor, Tensor | None]] = {
        "image_embeds": (batch.image_embeds, None),
        "prompt_embeds": (batch.prompt_embeds, None),
        "text_states": (batch.text_states, texts),
    }
    if batch.subjects is not None:
        values["subject_embeds"] = (batch.subjects.embeds, batch.subjects.owner)
    if batch.control_embeds is not None:
        values["control_embeds"] = (batch.control_embeds, None)
    return values


def some(records: np.ndarray, most: int = 5) -> str:
    """A few record numbers for a message."""
    shown = ", ".join(str(int(record)) for record in records[:most])
    return shown + (f" and {len(records) - most} more" if len(records) > most else "")
