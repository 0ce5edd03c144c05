"""Parameters of jobs on a Kubernetes cluster: what each asks for, and in which queue it waits."""

from __future__ import annotations

from pydantic import Field

from eclipse.config.section import Section


class ClusterParams(Section):
    """How a training or an extraction runs as a job. Of what comes out, only the number of processes changes bits: it
    orders sums otherwise."""

    namespace: str = Field("eclipse", pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
    """Namespace of jobs and their service account."""
    image: str = Field("eclipse-trainer:0.1.0", min_length=1)
    """Image of the jobs; give a digest (NAME@sha256:…) to pin it."""
    runtime: str = Field("eclipse-torchrun", pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
    """Name of the ClusterTrainingRuntime that training jobs refer to; eclipse-torchrun-gpu for GPU nodes."""
    nodes: int = Field(1, ge=1)
    """Nodes of one training. More than one need results on a volume that all can write (ReadWriteMany)."""
    processes: int = Field(1, ge=1, le=8)
    """Processes (and GPUs, where ``gpus`` says so) of each node."""
    gpus: bool = False
    """Whether each process has a GPU of its own."""
    cpu: str = Field("2", pattern=r"^[0-9]+(\.[0-9]+|m)?$")
    """CPUs of each node, as Kubernetes writes quantities."""
    memory: str = Field("8Gi", pattern=r"^[0-9]+(Ki|Mi|Gi|Ti)$")
    """Memory of each node."""
    queue: str | None = "training"
    """Kueue's LocalQueue of trainings; null where there is no Kueue."""
    parallel: int = Field(4, ge=1)
    """Training jobs of a sweep that are submitted at once; the queue decides how many run."""
    deadline: int = Field(172_800, ge=60)
    """Seconds after which a job that still runs is ended."""
    extraction_queue: str | None = "extraction"
    """Kueue's LocalQueue of extractions; null where there is no Kueue."""
    extraction_parts: int = Field(4, ge=1)
    """Pods that share the shards of one extraction."""
