"""All rules, and the places that they are applied to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from k8s.check import commands, pods, policy, references, restricted, variables
from k8s.check.admission import admission
from k8s.check.network import network
from k8s.check.network import of_pod as network_of_pod
from k8s.check.queues import queues
from k8s.check.quota import of_pod as quota_of_pod
from k8s.check.quota import quota
from k8s.check.rendered import ROOT, Problem, Rendered, label
from k8s.check.schema import schema

POOL = ROOT / "flows/pools/kubernetes.json"
GROUPS = (
    "trainer.kubeflow.org",
    "jobset.x-k8s.io",
    "kueue.x-k8s.io",
    "monitoring.coreos.com",
)
"""Groups of custom resources whose CRDs an overlay may count on (docs/kubernetes.md); the preflight looks for them."""


def _restricted(rendered: Rendered) -> Iterator[Problem]:
    return (problem for pod in pods.pods(rendered) for problem in restricted.restricted(pod))


def _groups(rendered: Rendered) -> Iterator[Problem]:
    for thing in rendered.objects:
        group = thing["apiVersion"].rpartition("/")[0]
        if "." in group and not group.endswith(".k8s.io") and group not in GROUPS:
            text = f"{group} is no API that an overlay may count on ({', '.join(GROUPS)}): keep it in a component"
            yield Problem("groups", label(thing), text)


RULES: tuple[Callable[[Rendered], Iterable[Problem]], ...] = (
    _restricted,
    policy.policy,
    references.references,
    queues,
    quota,
    admission,
    network,
    commands.commands,
    variables.variables,
)


def problems(rendered: Rendered, *, overlay: bool = True) -> list[Problem]:
    """Everything that is wrong with what was rendered; ``overlay``: also what only a whole overlay must hold.

    Where an object does not fit its schema, that is all that is told: the other rules count on it.
    """
    misfits = list(schema(rendered))
    rules = (*RULES, _groups) if overlay else RULES
    return misfits or [problem for rule in rules for problem in rule(rendered)]


def of_pool(path: Path, rendered: Rendered) -> list[Problem]:
    """What is wrong with the Job that Prefect's worker makes, in the overlay that it would run in."""
    job = pods.pool(path)
    job["metadata"]["name"] = job["metadata"].pop("generateName").rstrip("-")
    alone = Rendered([job], str(path))
    found = [*schema(alone), *admission(alone)]
    for pod in pods.pods_of(job):
        found += restricted.restricted(pod)
        found += policy.of_pod(pod)
        found += references.of_pod(pod, rendered)
        found += variables.of_pod(pod, rendered)
        found += network_of_pod(pod, rendered)
        found += quota_of_pod(pod, rendered)
    return [Problem(each.rule, f"{path.name}: {each.where}", each.text) for each in found]
