"""A server refuses a CLIP that its priors were not trained on, before it answers anything."""

from dataclasses import replace
from pathlib import Path

import pytest

from eclipse.errors import CheckpointError
from eclipse.models.clip import FrozenClip
from eclipse.releases.resolve import Served
from eclipse.serve.load import load_frozen

MINI = Path(__file__).parents[2] / "models" / "mini"


def test_served_clip_must_be_the_priors():
    clip = FrozenClip.load(MINI / "clip", device="cpu")
    served = Served((), MINI / "clip", MINI / "decoder", "f" * 64, clip.weights_hash, "d" * 64, "sequence-1")
    assert load_frozen(served)[0].weights_hash == clip.weights_hash
    with pytest.raises(CheckpointError, match=r"clip: is the CLIP .* trained on eeeeeeeeeeee; promote again"):
        load_frozen(replace(served, encoder_hash="e" * 64))
