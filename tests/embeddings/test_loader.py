"""The order of batches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eclipse.embeddings.loader import BatchOrder
from eclipse.errors import TrainingError


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 10), st.integers(0, 3), st.integers(0, 3))
def test_each_epoch_sees_each_sample_at_most_once_in_whole_batches(size, batch_size, seed, epoch):
    if size < batch_size:
        with pytest.raises(TrainingError, match="cannot fill one batch"):
            BatchOrder(size, batch_size, seed)
        return
    order = BatchOrder(size, batch_size, seed)
    steps = range(epoch * order.per_epoch, (epoch + 1) * order.per_epoch)
    seen = np.concatenate([order.at(step) for step in steps])
    assert all(len(order.at(step)) == batch_size for step in steps)
    assert len(np.unique(seen)) == len(seen) == size // batch_size * batch_size
    assert seen.min() >= 0
    assert seen.max() < size


def test_a_step_depends_on_nothing_but_seed_and_step():
    straight = BatchOrder(50, 8, 3)
    batches = [straight.at(step).copy() for step in range(20)]
    jumping = BatchOrder(50, 8, 3)
    for step in (19, 0, 7, 6, 13, 7):
        assert np.array_equal(jumping.at(step), batches[step])
    assert not np.array_equal(batches[0], batches[straight.per_epoch]), "epochs must differ"
    assert not np.array_equal(batches[0], BatchOrder(50, 8, 4).at(0)), "seeds must differ"
