"""The batching engine: one thread that owns the models and draws the pictures of many requests at once."""

from eclipse.serve.engine.draw import draw
from eclipse.serve.engine.engine import Engine, Stats
from eclipse.serve.engine.models import LoadedPrior, load_priors
from eclipse.serve.engine.order import cost

__all__ = ["Engine", "LoadedPrior", "Stats", "cost", "draw", "load_priors"]
