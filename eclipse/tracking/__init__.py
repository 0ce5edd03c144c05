"""MLflow, the ledger of runs and of registered models; no other package imports it."""

from eclipse.tracking.client import DEFAULT_URI
from eclipse.tracking.sweep import KEY, PARENT, Logged, log_sweep

__all__ = ["DEFAULT_URI", "KEY", "PARENT", "Logged", "log_sweep"]
