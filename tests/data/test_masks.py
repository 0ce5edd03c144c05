from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from eclipse.data.masks import box, decode_mask, encode_mask
from eclipse.errors import DataError


@settings(deadline=None)
@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 1)))
def test_masks_survive_their_run_lengths(mask):
    encoded = encode_mask(mask)
    assert np.array_equal(decode_mask(json.loads(json.dumps(encoded))), mask)
    assert decode_mask(encoded).dtype == np.uint8
    if mask.any():
        x0, y0, x1, y1 = box(mask)
        assert mask[y0:y1, x0:x1].sum() == mask.sum()
        assert mask[y0].any() and mask[y1 - 1].any() and mask[:, x0].any() and mask[:, x1 - 1].any()


def test_damaged_mask_is_refused():
    with pytest.raises(DataError, match="mask runs add up to 3, not 2 × 2"):
        decode_mask({"size": [2, 2], "counts": [1, 2]})
