"""The graph for Kubeflow Pipelines: each component is a few lines around the same command line as in dvc.yaml."""
