"""Which device to compute on: found, never configured."""

from __future__ import annotations

import torch


def pick() -> torch.device:
    """The first GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
