"""Checks of the manifests that need no cluster (``python -m k8s.check``), and of a cluster before they are applied
(``python -m k8s.check preflight``)."""
