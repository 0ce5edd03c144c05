"""Pictures among words, against a loop."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eclipse.errors import DataError
from eclipse.models.interleave import interleave, interleave_by_token_id

DIM = 5


@st.composite
def batches(draw):
    """Captions of 2 to 9 tokens with any number of spans that keep off BOS, EOS and one another."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    lengths = rng.integers(2, 10, draw(st.integers(1, 6)))
    spans = []
    for owner, length in enumerate(lengths):
        at = 1
        while at < length - 1:
            size = int(rng.integers(1, length - at))
            if rng.random() < 0.6:
                spans.append((owner, at, size))
            at += size
    return lengths.tolist(), spans, int(rng.integers(2**32))


def tensors(lengths, spans, seed=0):
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(sum(lengths), DIM, generator=generator)
    embeds = torch.randn(len(spans), DIM, generator=generator)
    owner, start, length = torch.tensor(spans, dtype=torch.int64).reshape(-1, 3).unbind(1)
    return states, torch.tensor(lengths), embeds, owner, start, length


@settings(max_examples=100)
@given(batches(), st.randoms())
def test_spans_become_vectors_and_nothing_else_changes(batch, random):
    lengths, spans, seed = batch
    random.shuffle(spans)
    states, *rest = tensors(lengths, spans, seed)
    before = states.clone()
    found = interleave(states, *rest)
    expected = before.clone()
    for number, (owner, start, length) in enumerate(spans):
        for token in range(start, start + length):
            expected[sum(lengths[:owner]) + token] = rest[1][number]
    assert torch.equal(found, expected)
    assert torch.equal(states, before)
    assert found.data_ptr() != states.data_ptr()


def test_two_pictures_for_one_word_said_twice():
    states, lengths, embeds, owner, start, length = tensors([6, 4], [(0, 2, 1), (0, 4, 1), (1, 1, 2)])
    found = interleave(states, lengths, embeds, owner, start, length)
    assert torch.equal(found[[2, 4, 7, 8]], embeds[[0, 1, 2, 2]])
    assert torch.equal(found[[0, 1, 3, 5, 6, 9]], states[[0, 1, 3, 5, 6, 9]])


def test_vectors_take_the_type_of_the_states():
    states, *rest = tensors([4], [(0, 1, 2)])
    assert interleave(states.half(), *rest).dtype == torch.float16


def test_gradients_reach_what_is_left_of_the_states():
    states, *rest = tensors([4], [(0, 1, 2)])
    interleave(states.requires_grad_(), *rest).sum().backward()
    assert states.grad is not None
    assert states.grad[:, 0].tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        ([(0, 0, 1)], "subject 1: tokens 0 to 0, but the words of caption 1 are tokens 1 to 3"),
        ([(0, 1, 1), (0, 3, 2)], "subject 2: tokens 3 to 4"),
        ([(1, 1, 3)], "caption 2 are tokens 1 to 2"),
        ([(0, 2, 0)], "subject 1"),
        ([(2, 1, 1)], "owner: 2 to 2, but there are 2 captions"),
        ([(-1, 1, 1)], "owner: -1"),
        ([(1, 1, 1), (0, 1, 2), (0, 2, 1)], "caption 1: two subjects stand on the same token"),
    ],
)
def test_spans_that_cannot_be_are_refused(spans, said):
    with pytest.raises(DataError, match=said):
        interleave(*tensors([5, 4], spans))


def test_sizes_that_do_not_fit_are_refused():
    states, lengths, embeds, *where = tensors([5, 4], [(0, 1, 1)])
    wide = torch.zeros(1, DIM + 3)
    said = "text states are 5 wide and image vectors 8; this CLIP's subjects cannot stand among its text states"
    with pytest.raises(DataError, match=said):
        interleave(states, lengths, wide, *where)
    with pytest.raises(DataError, match=said):
        interleave_by_token_id(states, lengths, torch.zeros(9), wide, [[0]])
    with pytest.raises(DataError, match="lengths: sum to 10"):
        interleave(states, lengths + torch.tensor([0, 1]), embeds, *where)
    with pytest.raises(DataError, match="1 vectors, 1 owners, 1 starts, 2 lengths"):
        interleave(states, lengths, embeds, *where[:2], torch.ones(2, dtype=torch.int64))
    with pytest.raises(DataError, match="token_ids and ids: 8 and 1"):
        interleave_by_token_id(states, lengths, torch.zeros(8), embeds, [[0]])


def test_upstreams_rule_replaces_every_occurrence_and_later_subjects_win():
    states, lengths, embeds, *_ = tensors([5, 4], [(0, 1, 1)] * 2)
    ids = torch.tensor([90, 7, 8, 7, 91, 90, 8, 3, 91])
    found = interleave_by_token_id(states, lengths, ids, embeds, [[7, 8], [8]])
    assert torch.equal(found[[1, 3]], embeds[[0, 0]])
    assert torch.equal(found[[2, 6]], embeds[[1, 1]])
    assert torch.equal(found[[0, 4, 5, 7, 8]], states[[0, 4, 5, 7, 8]])
    with pytest.raises(DataError, match="no caption holds a token of subject 2"):
        interleave_by_token_id(states, lengths, ids, embeds, [[7], [5, 6]])
