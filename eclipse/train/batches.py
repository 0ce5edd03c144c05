"""Parts of ragged batches, and the check that all of their numbers are numbers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from eclipse.embeddings.batch import Batch
from eclipse.errors import TrainingError


def cut(batch: Batch, rows: slice) -> Batch:
    """Samples ``rows`` of a ragged batch."""
    if rows.start == 0 and rows.stop == len(batch.lengths):
        return batch
    ends = batch.lengths.cumsum(0).tolist()
    first = ends[rows.start - 1] if rows.start else 0
    texts = batch.text_states[first : ends[rows.stop - 1]]
    return Batch(texts, batch.lengths[rows], batch.prompt_embeds[rows], batch.image_embeds[rows])


def check_finite(batch: Batch, records: np.ndarray, step: int) -> None:
    """Refuse a batch with NaN or infinity in it, naming the ``records`` (int64 [B]) that hold them."""
    sums = batch.image_embeds.sum() + batch.prompt_embeds.sum() + batch.text_states.sum()
    if torch.isfinite(sums):
        return
    for name in ("image_embeds", "prompt_embeds", "text_states"):
        values: Tensor = getattr(batch, name)
        bad = ~torch.isfinite(values).all(dim=1)
        if name == "text_states":
            owner = torch.arange(len(batch)).repeat_interleave(batch.lengths).to(bad.device)
            bad = torch.bincount(owner[bad], minlength=len(batch)) > 0
        if bad.any():
            raise TrainingError(
                f"step {step + 1}: {name} of records {some(records[bad.cpu().numpy()])} (rows of the training split) "
                "is not finite; delete the store and run the stage embed again"
            )


def some(records: np.ndarray, most: int = 5) -> str:
    """A few record numbers for a message."""
    shown = ", ".join(str(int(record)) for record in records[:most])
    return shown + (f" and {len(records) - most} more" if len(records) > most else "")
