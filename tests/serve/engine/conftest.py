"""The shipped frozen models with small random priors, and engines over them."""

from __future__ import annotations

import contextlib

import pytest
from made_server import MINI, make_prior

from eclipse.config.serve import ServeParams
from eclipse.models.checkpoint import load_prior
from eclipse.models.clip import FrozenClip
from eclipse.models.decoder import load_decoder
from eclipse.serve.engine import Engine, LoadedPrior
from eclipse.serve.types import PriorName

VARIANTS = {"text": "eclipse", "subjects": "lambda-eclipse"}


@pytest.fixture(scope="session")
def clip():
    return FrozenClip.load(MINI / "clip", device="cpu")


@pytest.fixture(scope="session")
def decoder():
    return load_decoder(MINI / "decoder", device="cpu")


@pytest.fixture(scope="session")
def made_prior(tmp_path_factory):
    def make(model: str, variant: str, seed: int = 0) -> LoadedPrior:
        folder = tmp_path_factory.mktemp("priors") / "p"
        return LoadedPrior(PriorName(model, variant, make_prior(folder, variant, seed)), load_prior(folder))

    return make


@pytest.fixture(scope="session")
def priors(made_prior):
    return {model: made_prior(model, variant) for model, variant in VARIANTS.items()}


@pytest.fixture
def running(clip, decoder, priors):
    """``with running(slots=2, …) as engine``."""

    @contextlib.contextmanager
    def run(loaded=None, *, observe=None, record=None, **params):
        settings = ServeParams(**({"slots": 2, "prior_batch": 2} | params))
        engine = Engine(clip, decoder, loaded or priors, settings, observe=observe, record=record)
        engine.start()
        try:
            yield engine
        finally:
            engine.close(0)

    return run
