"""Which prompts each figure of the subject evaluation is about: splits, numbers of subjects, edges."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

HELD_OUT = "test_held_out"
EDGES = f"{HELD_OUT}:edges"
"""``test_held_out`` once more, with the true pictures' edges as control."""


def groups_of(split: NDArray[np.str_], n_subjects: NDArray[Any] | None) -> dict[str, NDArray[np.bool_]]:
    """Name → rows bool [N] of a table of prompts, from its columns ``split`` [N] and ``n_subjects`` [N].

    Every split is a group; ``test_held_out`` is also divided by the number of subjects (``test_held_out:2``). Without
    ``n_subjects`` there are the splits alone.
    """
    groups = {str(name): split == name for name in dict.fromkeys(split.tolist())}
    if n_subjects is None:
        return groups
    held_out = split == HELD_OUT
    return groups | {f"{HELD_OUT}:{int(n)}": held_out & (n_subjects == n) for n in np.unique(n_subjects[held_out])}
