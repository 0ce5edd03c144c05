"""Names: of the stages that a sweep's points are, and of the jobs that run them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from components.jobs.errors import JobError
from eclipse.config.params import Params

TRAINED = ("train", "train-subjects")
"""The stages of dvc.yaml that are a sweep; each of their points and seeds is a TrainJob."""
EMBEDDED = ("embed", "embed-subjects")
"""The stages that run encoders over shards; each is an Indexed Job."""
_LONGEST = 45  # with what Trainer, JobSet and Job add, the pod's host name still fits into 63 characters


def stage_name(stage: str, point: str, seed: int) -> str:
    """``train@eclipse-0.2-0``, as DVC calls it."""
    return f"{stage}@{point}-{seed}"


def swept(params: Params, stage: str) -> Iterator[tuple[str, int]]:
    """Point and seed of each prior of the stage's sweep."""
    sweep = params.sweep if stage == "train" else params.subjects
    return ((point, seed) for point in sweep.points for seed in sweep.seeds)


def extractions(params: Params, stage: str) -> list[str]:
    """The DVC names of an embedding stage: ``embed``, or one for each way of annotating."""
    return ["embed"] if stage == "embed" else [f"{stage}@{by}" for by in params.annotate.by]


def job_name(stage: str, key: str) -> str:
    """A name that Kubernetes takes, the same for equal inputs: ``train-eclipse-0-2-0-<10 digits of the key>``."""
    plain = re.sub(r"[^a-z0-9]+", "-", stage.lower())
    if not re.fullmatch(r"[a-z].*", plain):
        raise JobError(f"stage {stage!r}: no job can be named after it; begin with a letter")
    return f"{plain[: _LONGEST - 11].rstrip('-')}-{key[:10]}"
