"""Manifests for Kubernetes (kustomize), and ``k8s.check``, which reads them as an API server would."""
