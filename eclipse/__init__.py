"""Training and evaluation of ECLIPSE text-to-image priors (arXiv 2312.04655, 2402.05195)."""

__version__ = "0.1.0"
