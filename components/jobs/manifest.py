"""Jobs as Kubernetes objects: a TrainJob for each point of a sweep, an Indexed Job for each extraction.

Both are made from the parameters alone, through the types of the Kubeflow SDK. Those types drop keys that they don't
know, so what comes out is compared with what went in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml
from kubeflow_trainer_api import models
from pydantic import ValidationError

from components.jobs.checkout import LOCK, PARAMS, REPOSITORY
from components.jobs.errors import JobError
from components.jobs.stage import job_name
from eclipse.config.cluster import ClusterParams

TRAINJOB, JOB = "TrainJob", "Job"
KEY = "eclipse/key"
"""Annotation with the key of the inputs, see :func:`components.jobs.run_cache.key_of`."""
NODE = "node"
"""Name that Kubeflow Trainer expects of the container that trains."""
_MODELS: dict[str, Any] = {
    TRAINJOB: models.TrainerV1alpha1TrainJob,
    JOB: models.IoK8sApiBatchV1Job,
    "ClusterTrainingRuntime": models.TrainerV1alpha1ClusterTrainingRuntime,
}


@dataclass(frozen=True)
class Work:
    """One job: a stage of dvc.yaml with the key of its inputs, and what its pods are sent beside the image.

    ``params`` is the text of params.yaml, ``lock`` the entries of dvc.lock of the stages that make the inputs. Of
    ``repository`` the pods clone ``commit``; without one they copy the image's own code.
    """

    stage: str
    key: str
    params: str
    lock: str
    commit: str | None = None
    repository: str | None = None

    @property
    def name(self) -> str:
        """The job's name in the cluster; equal inputs, equal name."""
        return job_name(self.stage, self.key)


def train_job(work: Work, cluster: ClusterParams) -> dict[str, Any]:
    """The TrainJob of ``work``, whose stage is ``SWEEP@POINT-SEED``."""
    sweep, _, point_seed = work.stage.partition("@")
    point, _, seed = point_seed.rpartition("-")
    words = ["python", "-m", "components.jobs.train", "--stage", sweep, "--point", point, "--seed", seed]
    spec = {
        "runtimeRef": {"apiGroup": "trainer.kubeflow.org", "kind": "ClusterTrainingRuntime", "name": cluster.runtime},
        "activeDeadlineSeconds": cluster.deadline,
        "trainer": {
            "image": cluster.image,
            "command": [*words, *_identity(work)],
            "env": _environment(work),
            "numNodes": cluster.nodes,
            "numProcPerNode": cluster.processes,
            "resourcesPerNode": _resources(cluster, cluster.processes),
        },
    }
    made = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": TRAINJOB,
        "metadata": _metadata(work, cluster, "eclipse-train", "training", cluster.queue),
        "spec": spec,
    }
    return checked(made)


def extraction_job(work: Work, cluster: ClusterParams, pod: dict[str, Any]) -> dict[str, Any]:
    """The Indexed Job of an embedding stage, whose pods are like ``pod``, the pod template of a training runtime.

    Each index embeds its part of the shards. A part that fails three times by itself ends the job; evictions and
    polite stops count for none.
    """
    parts = cluster.extraction_parts
    metadata = _metadata(work, cluster, "eclipse-extract", "extraction", cluster.extraction_queue)
    words = ["python", "-m", "components.jobs.extract", "--stage", work.stage, "--parts", str(parts)]
    template = _extraction_pod(pod, [*words, *_identity(work)], work, cluster)
    made = {
        "apiVersion": "batch/v1",
        "kind": JOB,
        "metadata": metadata,
        "spec": {
            "completionMode": "Indexed",
            "completions": parts,
            "parallelism": parts,
            "backoffLimitPerIndex": 3,
            "maxFailedIndexes": 0,
            "activeDeadlineSeconds": cluster.deadline,
            "ttlSecondsAfterFinished": 86_400,
            "podFailurePolicy": failure_policy("FailIndex"),
            "template": {**template, "metadata": {"labels": dict(metadata["labels"])}},
        },
    }
    return checked(made)


def failure_policy(hopeless: str) -> dict[str, Any]:
    """Pods that were evicted or stopped politely (75) are replaced and not counted; bad input (2) is ``hopeless``."""
    return {
        "rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "Ignore", "onExitCodes": {"containerName": NODE, "operator": "In", "values": [75]}},
            {"action": hopeless, "onExitCodes": {"containerName": NODE, "operator": "In", "values": [2]}},
        ]
    }


def checked(made: dict[str, Any]) -> dict[str, Any]:
    """``made``, if the SDK's type of its kind accepts every key and value of it; else a :class:`JobError`."""
    kind, name = made.get("kind"), made.get("metadata", {}).get("name")
    try:
        back = _MODELS[str(kind)].from_dict(made).to_dict()
    except (ValidationError, KeyError, ValueError) as error:
        raise JobError(f"{kind} {name}: {' '.join(str(error).split())}") from None
    lost = _difference(made, back, str(kind))
    if lost:
        raise JobError(f"{kind} {name}: {lost}: the API has no such field or value; check section cluster")
    return made


def as_yaml(manifest: dict[str, Any]) -> str:
    """The object as a person would write it: texts of several lines as blocks."""
    return yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


_Dumper.add_representer(str, _Dumper.represent_str)


def _difference(made: Any, back: Any, where: str) -> str | None:
    """The first place at which two objects differ."""
    if isinstance(made, dict) and isinstance(back, dict):
        for key in sorted(made.keys() | back.keys()):
            if key not in made or key not in back:
                return f"{where}.{key}"
            if inner := _difference(made[key], back[key], f"{where}.{key}"):
                return inner
        return None
    if isinstance(made, list) and isinstance(back, list) and len(made) == len(back):
        found = (_difference(a, b, f"{where}[{i}]") for i, (a, b) in enumerate(zip(made, back, strict=True)))
        return next((inner for inner in found if inner), None)
    return None if made == back and type(made) is type(back) else where


def _metadata(work: Work, cluster: ClusterParams, app: str, component: str, queue: str | None) -> dict[str, Any]:
    labels = {
        "app.kubernetes.io/name": app,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": "eclipse",
    }
    if queue:
        labels |= {"kueue.x-k8s.io/queue-name": queue, "kueue.x-k8s.io/priority-class": f"eclipse-{component}"}
    annotations = {KEY: work.key, "eclipse/stage": work.stage}
    return {"name": work.name, "namespace": cluster.namespace, "labels": labels, "annotations": annotations}


def _identity(work: Work) -> list[str]:
    return ["--key", work.key, *(["--commit", work.commit] if work.commit else [])]


def _environment(work: Work) -> list[dict[str, Any]]:
    """Kubernetes replaces $(NAME) in values, and $$ by $."""
    sent = {PARAMS: work.params, LOCK: work.lock} | ({REPOSITORY: work.repository} if work.repository else {})
    return [{"name": name, "value": text.replace("$", "$$")} for name, text in sent.items()]


def _resources(cluster: ClusterParams, gpus: int) -> dict[str, Any]:
    """Requests equal to limits: what the queue admits is what the node gives."""
    amounts = {"cpu": cluster.cpu, "memory": cluster.memory}
    if cluster.gpus:
        amounts["nvidia.com/gpu"] = str(gpus)
    return {"requests": amounts, "limits": dict(amounts)}


def _extraction_pod(pod: dict[str, Any], words: list[str], work: Work, cluster: ClusterParams) -> dict[str, Any]:
    """A copy of the runtime's pod template that runs ``words`` with a single process."""
    spec = {**pod["spec"], "priorityClassName": "eclipse-extraction"}
    spec.pop("affinity", None)  # parts have nothing to tell each other
    (container,) = spec["containers"]
    spec["containers"] = [
        {
            **container,
            "image": cluster.image,
            "command": words,
            "env": [*container.get("env", ()), *_environment(work)],
            "resources": _resources(cluster, 1),
        }
    ]
    return {"spec": spec}
