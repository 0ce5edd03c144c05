"""Priors, and adapters of the frozen models on both sides of them."""
