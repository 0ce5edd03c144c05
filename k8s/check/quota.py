"""ResourceQuota and LimitRange against what the same overlay runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal

from k8s.check.pods import Pod, pods
from k8s.check.quantities import Amounts, asked, plain, quantity
from k8s.check.rendered import Object, Problem, Rendered, dig, label, name_of

RULE = "quota"
COMPUTE = ("cpu", "memory", "ephemeral-storage")


def quota(rendered: Rendered) -> Iterator[Problem]:
    """What a quota of the overlay would refuse of its own servers, at the most replicas that they can have, and of one
    pod of each Job beside them."""
    every = pods(rendered)
    for thing in rendered.of("ResourceQuota"):
        hard = dig(thing, "spec", "hard", default={})
        for pod in every:
            yield from _named(thing, pod, hard)
        if _partial(thing):
            continue
        used = needed(rendered)
        for name, limit in hard.items():
            if used[name] > quantity(limit):
                yield Problem(
                    RULE, label(thing), f"{name}: the overlay needs {plain(used[name])}, the quota is {limit}"
                )
    for pod in every:
        if not pod.serves:
            yield from _beside(pod, rendered)


def of_pod(pod: Pod, rendered: Rendered) -> Iterator[Problem]:
    """What the overlay's quota would refuse of a pod that is made later, beside the servers."""
    for thing in rendered.of("ResourceQuota"):
        yield from _named(thing, pod, dig(thing, "spec", "hard", default={}))
    yield from _beside(pod, rendered)


def _partial(thing: Object) -> bool:
    """Whether a quota counts only some of the namespace's pods."""
    return bool(dig(thing, "spec", "scopes") or dig(thing, "spec", "scopeSelector"))


def _beside(pod: Pod, rendered: Rendered) -> Iterator[Problem]:
    """Where the servers leave no room for a pod; where they have none themselves, that is told already."""
    used, more = needed(rendered), charged(pod)
    for thing in rendered.of("ResourceQuota"):
        if _partial(thing):
            continue
        for name, limit in dig(thing, "spec", "hard", default={}).items():
            if used[name] <= quantity(limit) < used[name] + more[name]:
                text = f"{label(thing)}: {name}: {plain(more[name])} beside the servers' {plain(used[name])}"
                yield Problem(RULE, pod.where, f"{text}, the quota is {limit}")


def needed(rendered: Rendered) -> Amounts:
    """What the servers and claims need, in the names of a ResourceQuota, at their HPA's maximum and a surge."""
    total: Amounts = defaultdict(Decimal)
    for pod in pods(rendered):
        if not pod.serves:
            continue
        count = _replicas(pod, rendered)
        for name, amount in charged(pod).items():
            total[name] += amount * count
    for thing in rendered.of("PersistentVolumeClaim"):
        total["requests.storage"] += quantity(dig(thing, "spec", "resources", "requests", "storage", default=0))
    for thing in rendered.of("StatefulSet"):
        for claim in dig(thing, "spec", "volumeClaimTemplates", default=[]):
            storage = quantity(dig(claim, "spec", "resources", "requests", "storage", default=0))
            total["requests.storage"] += storage * dig(thing, "spec", "replicas", default=1)
            total["persistentvolumeclaims"] += dig(thing, "spec", "replicas", default=1)
    for kind, name in (("PersistentVolumeClaim", "persistentvolumeclaims"), ("Service", "services")):
        total[name] += len(list(rendered.of(kind)))
    return total


def charged(pod: Pod) -> Amounts:
    """What one pod needs, in the names of a ResourceQuota."""
    total: Amounts = defaultdict(Decimal, pods=Decimal(1))
    for what in ("requests", "limits"):
        for name, amount in asked(pod, what).items():
            total[f"{what}.{name}"] += amount
            if what == "requests" and name in COMPUTE:
                total[name] += amount
    return total


def _replicas(pod: Pod, rendered: Rendered) -> int:
    """The most pods of a workload at once: its HPA's maximum, and what a rolling update adds."""
    count = pod.replicas
    for thing in rendered.of("HorizontalPodAutoscaler"):
        target = dig(thing, "spec", "scaleTargetRef", default={})
        if (target.get("kind"), target.get("name")) == (pod.kind, name_of(pod.owner)):
            count = max(count, dig(thing, "spec", "maxReplicas", default=1))
    surge = dig(pod.owner, "spec", "strategy", "rollingUpdate", "maxSurge", default=0)
    if isinstance(surge, str):
        surge = -(-count * int(surge.rstrip("%")) // 100)
    return int(count + surge)


def _named(thing: Object, pod: Pod, hard: Object) -> Iterator[Problem]:
    """A quota of a compute resource refuses pods that do not say how much of it they want."""
    for name in hard:
        what, _, resource = (
            name.rpartition(".") if name.startswith(("requests.", "limits.")) else ("requests", "", name)
        )
        if resource not in COMPUTE:
            continue
        for where, container in pod.containers():
            resources = dig(container, "resources", default={})
            said = dig(resources, what, resource)
            if said is None and not (what == "requests" and dig(resources, "limits", resource) is not None):
                yield Problem(RULE, where, f"{label(thing)} counts {name}: resources.{what}.{resource} must be said")
