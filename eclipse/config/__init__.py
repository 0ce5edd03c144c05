"""Typed parameters: ``params.yaml`` is the only configuration, and an unknown key in it is an error."""

from eclipse.config.load import load_params, parse_params
from eclipse.config.params import Params

__all__ = ["Params", "load_params", "parse_params"]
