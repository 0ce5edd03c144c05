"""Kueue's and Trainer's objects among themselves: their webhooks' rules and CEL expressions, names that must exist."""

from __future__ import annotations

from collections.abc import Iterator

from k8s.check.pods import pods_of
from k8s.check.rendered import Object, Problem, Rendered, dig, label

RULE = "queue"
_QUEUE = "kueue.x-k8s.io/queue-name"
_PRIORITY = "kueue.x-k8s.io/priority-class"
_FRAMEWORK = "trainer.kubeflow.org/framework"


def queues(rendered: Rendered) -> Iterator[Problem]:
    """What Kueue or Trainer would refuse, or leave waiting for ever."""
    for thing in rendered.of("ClusterQueue"):
        yield from _cluster_queue(thing, rendered)
    for thing in rendered.of("LocalQueue"):
        name = dig(thing, "spec", "clusterQueue")
        if not rendered.find("ClusterQueue", str(name)):
            yield Problem(RULE, label(thing), f"ClusterQueue {name} does not exist")
    for thing in rendered.objects:
        yield from _labels(thing, rendered)
    for thing in rendered.of("ClusterTrainingRuntime", "TrainingRuntime"):
        yield from _runtime(thing)
    for thing in rendered.of("TrainJob"):
        reference = dig(thing, "spec", "runtimeRef", default={})
        kind = reference.get("kind", "ClusterTrainingRuntime")
        if not rendered.find(kind, str(reference.get("name"))):
            yield Problem(RULE, label(thing), f"{kind} {reference.get('name')} does not exist")


def _cluster_queue(thing: Object, rendered: Rendered) -> Iterator[Problem]:
    where, spec = label(thing), dig(thing, "spec", default={})
    if spec.get("namespaceSelector") is None:
        yield Problem(RULE, where, "without spec.namespaceSelector no namespace may use it")
    fungibility = spec.get("flavorFungibility") or {}
    both = {fungibility.get("whenCanBorrow"), fungibility.get("whenCanPreempt")}
    if fungibility.get("preference") and both != {"TryNextFlavor"}:
        yield Problem(
            RULE, where, "flavorFungibility.preference needs TryNextFlavor for whenCanBorrow and whenCanPreempt"
        )
    seen: set[str] = set()
    for group in spec.get("resourceGroups") or []:
        covered = group.get("coveredResources") or []
        if seen & set(covered):
            yield Problem(RULE, where, f"{', '.join(sorted(seen & set(covered)))}: covered by two resourceGroups")
        seen |= set(covered)
        for flavor in group.get("flavors") or []:
            quotas = flavor.get("resources") or []
            if [quota.get("name") for quota in quotas] != covered:
                yield Problem(
                    RULE, where, f"flavor {flavor.get('name')}: its resources are not those covered, in that order"
                )
            if not rendered.find("ResourceFlavor", str(flavor.get("name"))):
                yield Problem(RULE, where, f"ResourceFlavor {flavor.get('name')} does not exist")
            for quota in quotas:
                if "borrowingLimit" in quota and not spec.get("cohortName"):
                    yield Problem(RULE, where, "borrowingLimit needs a cohortName")


def _labels(thing: Object, rendered: Rendered) -> Iterator[Problem]:
    """Queue and priority that an object's labels name."""
    labels = dig(thing, "metadata", "labels", default={})
    every = [labels, *(pod.labels for pod in pods_of(thing))]
    for name in sorted({found[_QUEUE] for found in every if _QUEUE in found}):
        if not rendered.find("LocalQueue", name):
            yield Problem(RULE, label(thing), f"LocalQueue {name} does not exist")
    for name in sorted({found[_PRIORITY] for found in every if _PRIORITY in found}):
        if not rendered.find("WorkloadPriorityClass", name):
            yield Problem(RULE, label(thing), f"WorkloadPriorityClass {name} does not exist")


def _runtime(thing: Object) -> Iterator[Problem]:
    """What Trainer's webhook and the SDK expect of a runtime."""
    where = label(thing)
    if not dig(thing, "metadata", "labels", _FRAMEWORK):
        yield Problem(RULE, where, f"label {_FRAMEWORK} is missing: the SDK lists no runtime without it")
    jobs = dig(thing, "spec", "template", "spec", "replicatedJobs", default=[])
    names = [job.get("name") for job in jobs]
    if names.count("node") != 1:
        yield Problem(RULE, where, f"one replicated job must be named node, not {names}")
    for job in jobs:
        if job.get("name") == "node":
            yield from _node(where, job)


def _node(where: str, job: Object) -> Iterator[Problem]:
    containers = dig(job, "template", "spec", "template", "spec", "containers", default=[])
    if "node" not in [container.get("name") for container in containers]:
        yield Problem(RULE, where, "the replicated job node needs a container named node: Trainer sets its command")
    step = dig(job, "template", "metadata", "labels", "trainer.kubeflow.org/trainjob-ancestor-step")
    if step != "trainer":
        text = "label trainer.kubeflow.org/trainjob-ancestor-step: trainer is missing on the job template of node"
        yield Problem(RULE, where, text)
    rules = dig(job, "template", "spec", "podFailurePolicy", "rules", default=[])
    ignored = [rule for rule in rules if rule.get("action") == "Ignore"]
    conditions = [each.get("type") for rule in ignored for each in rule.get("onPodConditions") or []]
    if "DisruptionTarget" not in conditions:
        yield Problem(
            RULE, where, "podFailurePolicy does not ignore DisruptionTarget: preemption would use up the retries"
        )
