"""Prefect flows: when and where the graph runs. What it does stands in dvc.yaml and ``eclipse``."""
