"""Priors are loaded under their names, once each, and only for their CLIP."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_server import MINI, encoder_hash, make_prior

from eclipse.errors import CheckpointError
from eclipse.releases import Served, ServedPrior
from eclipse.serve.engine import load_priors


@pytest.fixture
def entry(tmp_path):
    digest = make_prior(tmp_path / "p", "eclipse")
    return ServedPrior("m", "eclipse", "champion", digest, tmp_path / "p", "3", {"encoder_hash": encoder_hash()})


def served(*priors: ServedPrior) -> Served:
    return Served(priors, MINI / "clip", MINI / "decoder", "f", "e", "d", "unpromoted")


def test_names_come_with_the_models_and_equal_weights_are_read_once(clip, entry):
    made = load_priors(served(entry, replace(entry, model="m@candidate", role="candidate", version="4")), clip)
    assert list(made) == ["m", "m@candidate"]
    assert made["m"].name.version == "3" and made["m@candidate"].name.version == "4"
    assert made["m"].prior is made["m@candidate"].prior and not made["m"].prior.training
    again = load_priors(served(replace(entry, model="n")), clip, made)
    assert again["n"].prior is made["m"].prior


def test_another_kind_another_clip_and_unknown_variants_are_refused(clip, entry):
    for wrong in (
        replace(entry, variant="lambda-eclipse"),
        replace(entry, variant="diffusion"),
        replace(entry, lineage={"encoder_hash": "0" * 64}),
    ):
        with pytest.raises(CheckpointError, match=str(entry.folder)):
            load_priors(served(wrong), clip)
