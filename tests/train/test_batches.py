"""Parts of a batch are those of its records, and what is not a number is found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from eclipse.embeddings.batch import Batch
from eclipse.errors import TrainingError
from eclipse.train.batches import check_finite, cut
from tests.train.tiny import RECORDS, Memory, embedded

SOURCE = Memory(embedded(), subjects=True)


def same(left: Batch, right: Batch) -> bool:
    plain = ("text_states", "lengths", "prompt_embeds", "image_embeds", "control_embeds")
    pairs = [(getattr(left, name), getattr(right, name)) for name in plain]
    if left.subjects is not None and right.subjects is not None:
        names = ("embeds", "owner", "start", "length")
        pairs += [(getattr(left.subjects, name), getattr(right.subjects, name)) for name in names]
    return all(one is other or torch.equal(one, other) for one, other in pairs)


@hypothesis_settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, RECORDS - 1), min_size=1, max_size=9), st.data())
def test_a_part_is_what_the_source_gives_for_its_records(index: list[int], data):
    start = data.draw(st.integers(0, len(index) - 1))
    stop = data.draw(st.integers(start + 1, len(index)))
    part = cut(SOURCE.gather(np.array(index)), slice(start, stop))
    assert same(part, SOURCE.gather(np.array(index[start:stop])))


def test_text_alone_stays_text_alone():
    part = cut(Memory(embedded()).gather(np.arange(4)), slice(1, 3))
    assert part.subjects is None and part.control_embeds is None


def test_a_subject_or_edges_that_are_no_numbers_name_their_record():
    index = np.array([9, 3, 31, 6])
    batch = SOURCE.gather(index)
    check_finite(batch, index, 0)
    owner = int(batch.subjects.owner[-1])
    batch.subjects.embeds[-1, 2] = float("nan")
    with pytest.raises(TrainingError, match=rf"step 1: subject_embeds of records {index[owner]} \("):
        check_finite(batch, index, 0)
    batch = SOURCE.gather(index)
    batch.control_embeds[2, 0] = float("inf")
    with pytest.raises(TrainingError, match=r"control_embeds of records 31 \("):
        check_finite(batch, index, 0)
