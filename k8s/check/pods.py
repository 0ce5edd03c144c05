"""Pod templates, wherever they stand: in workloads, in training runtimes, in the pool of Prefect's worker."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k8s.check.rendered import Object, Rendered, dig, label

SERVERS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")
"""Workloads whose pods run until they are replaced: they are probed."""
_PLACEHOLDER = re.compile(r"\{\{ *(\w+) *\}\}")


@dataclass(frozen=True)
class Pod:
    """A pod that something would make: where it stands, its labels, its spec, and how many run side by side."""

    where: str
    kind: str
    owner: Object
    labels: dict[str, str]
    spec: Object
    replicas: int = 1

    @property
    def serves(self) -> bool:
        """Whether it runs until it is replaced."""
        return self.kind in SERVERS

    def containers(self) -> Iterator[tuple[str, Object]]:
        """``Kind/owner container`` and the container, init containers first."""
        for container in (*dig(self.spec, "initContainers", default=[]), *dig(self.spec, "containers", default=[])):
            yield f"{self.where} {container.get('name')}", container

    def main(self) -> Iterator[tuple[str, Object]]:
        """As :meth:`containers`, without init containers that end before the others start."""
        for container in dig(self.spec, "initContainers", default=[]):
            if container.get("restartPolicy") == "Always":
                yield f"{self.where} {container.get('name')}", container
        for container in dig(self.spec, "containers", default=[]):
            yield f"{self.where} {container.get('name')}", container


def pods(rendered: Rendered) -> list[Pod]:
    """Every pod template of the rendered objects."""
    return [pod for thing in rendered.objects for pod in pods_of(thing)]


def pods_of(thing: Object) -> list[Pod]:
    """The pod templates of one object; none where its kind makes no pods."""
    kind = thing["kind"]
    if kind == "Pod":
        return [_pod(thing, kind, {"metadata": thing["metadata"], "spec": thing.get("spec")}, 1)]
    if kind in SERVERS:
        return [_pod(thing, kind, dig(thing, "spec", "template"), dig(thing, "spec", "replicas", default=1))]
    if kind == "Job":
        return [_pod(thing, kind, dig(thing, "spec", "template"), dig(thing, "spec", "parallelism", default=1))]
    if kind == "CronJob":
        return [_pod(thing, kind, dig(thing, "spec", "jobTemplate", "spec", "template"), 1)]
    replicated = _replicated(thing)
    return [_pod(thing, kind, dig(job, "template", "spec", "template"), 1, str(job.get("name"))) for job in replicated]


def _replicated(thing: Object) -> list[Object]:
    """The jobs of a JobSet, a training runtime, or a Katib trial that is one of them."""
    kind = thing["kind"]
    if kind == "JobSet":
        return list(dig(thing, "spec", "replicatedJobs", default=[]))
    if kind in {"ClusterTrainingRuntime", "TrainingRuntime"}:
        return list(dig(thing, "spec", "template", "spec", "replicatedJobs", default=[]))
    return []


def _pod(thing: Object, kind: str, template: Object | None, replicas: int, part: str = "") -> Pod:
    where = f"{label(thing)} {part}".strip()
    labels = dig(template, "metadata", "labels", default={})
    return Pod(where, kind, thing, labels, dig(template, "spec", default={}), replicas)


def pool(path: Path) -> Object:
    """The Job that Prefect's worker would make from a work pool's base template, with the variables' defaults and,
    on the pod, a label that the worker adds."""
    template = json.loads(path.read_text(encoding="utf-8"))
    variables = dig(template, "variables", "properties", default={})
    defaults = {name: spec.get("default") for name, spec in variables.items()}
    defaults["name"] = defaults.get("name") or "flow-run"
    job = dict(_filled(dig(template, "job_configuration", "job_manifest"), defaults))
    labels = job["spec"]["template"].setdefault("metadata", {}).setdefault("labels", {})
    labels["prefect.io/flow-run-id"] = "0"
    return job


def _filled(value: Any, defaults: dict[str, Any]) -> Any:
    """The manifest with its placeholders replaced. As with Prefect, a key whose value would be null is left out."""
    if isinstance(value, dict):
        filled = {key: _filled(inner, defaults) for key, inner in value.items()}
        return {key: inner for key, inner in filled.items() if inner is not None}
    if isinstance(value, list):
        return [_filled(inner, defaults) for inner in value]
    if not isinstance(value, str):
        return value
    whole = _PLACEHOLDER.fullmatch(value)
    if not whole:
        return _PLACEHOLDER.sub(lambda match: str(defaults.get(match[1]) or ""), value)
    found = defaults.get(whole[1])
    if whole[1] == "env":
        return [{"name": name, "value": text} for name, text in (found or {}).items()]
    return found
