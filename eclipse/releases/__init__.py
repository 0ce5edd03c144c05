"""The releases folder: what servers read, content-addressed, switched by one rename of ``state.json``."""

from eclipse.releases.resolve import Served, ServedPrior, resolve, signature
from eclipse.releases.state import Entry, Model, State
from eclipse.releases.store import Releases

__all__ = ["Entry", "Model", "Releases", "Served", "ServedPrior", "State", "resolve", "signature"]
