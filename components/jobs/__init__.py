"""Training and extraction as jobs on a Kubernetes cluster, whose results come back through DVC's run cache.

``python -m components.jobs submit`` stands outside the cluster's pods, :mod:`components.jobs.train` and
:mod:`components.jobs.extract` run inside; what is trained and how is said by dvc.yaml and params.yaml alone.
"""
