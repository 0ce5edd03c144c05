from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eclipse.errors import DataError
from eclipse.models.packing import attention_kernels, best_fit_decreasing, check_batch, pack, pad

LENGTHS = st.lists(st.integers(1, 77), min_size=1, max_size=40)


@given(sizes=st.lists(st.integers(1, 128), min_size=1, max_size=200))
@settings(max_examples=60, deadline=None)
def test_bins_hold_their_items_side_by_side(sizes):
    sizes = np.array(sizes)
    bins, offsets = best_fit_decreasing(sizes, 128)
    used = np.zeros((bins.max() + 1, 128), int)
    for size, row, offset in zip(sizes, bins, offsets, strict=True):
        assert offset + size <= 128
        used[row, offset : offset + size] += 1
    assert used.max() == 1
    assert (used.sum(1) > 0).all()
    # A bin is opened only for an item that fits into no other, so no two bins could have been one.
    levels = np.sort(used.sum(1))
    assert len(levels) == 1 or levels[0] + levels[1] > 128


def test_the_fullest_bin_that_fits_is_taken():
    bins, offsets = best_fit_decreasing(np.array([2, 6, 7, 3, 2]), 10)
    assert bins.tolist() == [1, 1, 0, 0, 1]
    assert offsets.tolist() == [6, 0, 0, 7, 8]


@given(lengths=LENGTHS, extras=st.integers(3, 4), row_tokens=st.sampled_from([16, 100, 128]))
@settings(max_examples=40, deadline=None)
def test_every_token_has_its_own_slot_and_sees_exactly_its_own_past(lengths, extras, row_tokens):
    packing = pack(torch.tensor(lengths), extras, row_tokens)
    total = sum(lengths)
    assert packing.length <= max(row_tokens, max(lengths) + extras)
    assert len(set(packing.slots.tolist())) == total + extras * len(lengths)
    assert packing.text_positions.tolist() == [i for n in lengths for i in range(n)]
    allowed = torch.zeros(packing.rows * packing.length, packing.rows * packing.length, dtype=torch.bool)
    tails = packing.slots[total:].view(len(lengths), extras)
    for text, tail in zip(packing.slots[:total].split(lengths), tails, strict=True):
        own = torch.cat([text, tail])
        allowed[own[:, None], own] = torch.ones(len(own), len(own), dtype=torch.bool).tril()
    empty = torch.ones(len(allowed), dtype=torch.bool)
    empty[packing.slots] = False
    allowed[empty, empty] = True
    blocks = torch.block_diag(*packing.mask[:, 0].float()).bool()
    assert torch.equal(blocks, allowed)
    assert torch.equal(packing.read_slots, tails[:, -1])
    rows = torch.arange(packing.rows)[:, None] * packing.length
    assert torch.equal((rows + packing.read_queries).flatten()[packing.read_index], packing.read_slots)


def test_rows_are_cut_to_what_is_used():
    packing = pack(torch.tensor([5, 3]), 3, 128)
    assert (packing.rows, packing.length) == (1, 14)


def test_web_captions_fill_their_rows():
    lengths = np.random.default_rng(0).integers(5, 27, 256)
    packing = pack(lengths, 3, 128)
    assert (lengths.sum() + 3 * 256) / (packing.rows * packing.length) > 0.97


@given(lengths=LENGTHS)
@settings(max_examples=20, deadline=None)
def test_padding_puts_states_in_front_and_zeros_behind(lengths):
    states = torch.randn(sum(lengths), 3)
    padded, mask = pad(states, torch.tensor(lengths))
    assert padded.shape == (len(lengths), 77, 3)
    assert torch.equal(padded[mask], states)
    assert not padded[~mask].any()
    assert mask.sum(1).tolist() == lengths
    assert (mask.int().diff(dim=1) <= 0).all()


@pytest.mark.parametrize(
    ("states", "lengths", "match"),
    [
        ((5, 9), [2, 3], r"\[tokens, 8\]"),
        ((5, 8), [2, 2], "sum to 4"),
        ((5, 8), [0, 5], "between 0 and 5"),
        ((78, 8), [78], "takes 1 to 77"),
        ((0, 8), [], "sum to 0"),
    ],
)
def test_states_that_do_not_fit_are_refused(states, lengths, match):
    with pytest.raises(DataError, match=match):
        check_batch(torch.zeros(states), torch.tensor(lengths, dtype=torch.int64), width=8, context=77)


def test_kernels_are_limited_only_inside_the_scope_and_only_for_16_bit_training():
    before = torch.backends.cuda.flash_sdp_enabled()
    with attention_kernels(torch.zeros(1, dtype=torch.bfloat16)):
        assert not torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.flash_sdp_enabled() == before
    with attention_kernels(torch.zeros(1)):
        assert torch.backends.cuda.flash_sdp_enabled() == before
    with torch.no_grad(), attention_kernels(torch.zeros(1, dtype=torch.bfloat16)):
        assert torch.backends.cuda.flash_sdp_enabled() == before
