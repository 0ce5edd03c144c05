"""What the API server would answer with a warning, or what only validation beyond the schema refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from k8s.check.pods import Pod, pods
from k8s.check.quantities import quantity
from k8s.check.rendered import Object, Problem, Rendered, dig, label, name_of

RULE = "warning"
_DNS_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
_VARIABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_DEPRECATED_ANNOTATIONS = (
    "kubernetes.io/ingress.class",
    "volume.beta.kubernetes.io/storage-class",
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/mount-options",
    "seccomp.security.alpha.kubernetes.io/pod",
    "container.seccomp.security.alpha.kubernetes.io/",
    "container.apparmor.security.beta.kubernetes.io/",
    "scheduler.alpha.kubernetes.io/critical-pod",
)
_DEPRECATED_NODE_LABELS = (
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
)
_NAMED = (
    "Pod",
    "Job",
    "CronJob",
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "ReplicaSet",
    "TrainJob",
    "JobSet",
    "Service",
)
"""Kinds whose names become host names or names of pods."""
LISTS = {
    "env": ("name",),
    "ports": ("containerPort", "protocol"),
    "volumeMounts": ("mountPath",),
}
"""Lists of a container that server-side apply merges by these keys: the same key twice is an error."""


def admission(rendered: Rendered) -> Iterator[Problem]:
    """Warnings of Kubernetes 1.34, and values that it refuses although their types are right."""
    for thing in rendered.objects:
        yield from _names(thing)
        yield from _deprecated(thing)
        yield from _of_kind(thing)
    for pod in pods(rendered):
        yield from of_pod(pod)


def of_pod(pod: Pod) -> Iterator[Problem]:
    """The same for one pod template."""
    names = [container.get("name") for _, container in pod.containers()]
    for name in sorted({str(name) for name in names if names.count(name) > 1}):
        yield Problem(RULE, pod.where, f"two containers are named {name}")
    volumes = [volume.get("name") for volume in dig(pod.spec, "volumes", default=[])]
    for name in sorted({str(name) for name in volumes if volumes.count(name) > 1}):
        yield Problem(RULE, pod.where, f"two volumes are named {name}")
    for where, container in pod.containers():
        yield from _lists(where, container)
        yield from _amounts(where, dig(container, "resources", default={}))
    for volume in dig(pod.spec, "volumes", default=[]):
        yield from _amounts(f"{pod.where} volume {volume.get('name')}", {"emptyDir": _size(volume)})
    for key in sorted(set(dig(pod.spec, "nodeSelector", default={})) & set(_DEPRECATED_NODE_LABELS)):
        yield Problem(RULE, pod.where, f"nodeSelector: {key} is deprecated")
    yield from _metadata(pod.where, dig(pod.owner, "spec", "template", "metadata", default={}))


def _size(volume: Object) -> dict[str, Any]:
    limit = dig(volume, "emptyDir", "sizeLimit")
    return {} if limit is None else {"memory": limit}


def _lists(where: str, container: Object) -> Iterator[Problem]:
    for field, keys in LISTS.items():
        seen = []
        for item in dig(container, field, default=[]):
            key = tuple(item.get(name, "TCP" if name == "protocol" else None) for name in keys)
            if key in seen:
                yield Problem(RULE, where, f"{field}: {key[0]} is there twice")
            seen.append(key)
    names = [port.get("name") for port in dig(container, "ports", default=[]) if port.get("name")]
    for name in sorted({name for name in names if names.count(name) > 1 or len(name) > 15}):
        yield Problem(RULE, where, f"ports: the name {name} is there twice, or longer than 15 characters")
    for each in dig(container, "env", default=[]):
        if not _VARIABLE.match(str(each.get("name"))):
            yield Problem(RULE, where, f"env: {each.get('name')} is no name for a variable")
        if "value" in each and not isinstance(each["value"], str):
            yield Problem(RULE, where, f"env: {each.get('name')} must be quoted: {each['value']!r} is no text")


def _amounts(where: str, resources: Object) -> Iterator[Problem]:
    """Memory and disk in fractions of a byte: `400m` for `400Mi` is taken, with a warning."""
    for what, amounts in resources.items():
        for name, value in amounts.items() if isinstance(amounts, dict) else ():
            try:
                amount = quantity(value)
            except ValueError as error:
                yield Problem(RULE, where, f"{what}.{name}: {error}")
                continue
            if name in {"memory", "ephemeral-storage", "storage"} and amount != int(amount):
                yield Problem(RULE, where, f"{what}.{name}: {value} is a fraction of a byte")


def _names(thing: Object) -> Iterator[Problem]:
    name = name_of(thing).rstrip("-") if "generateName" in thing["metadata"] else name_of(thing)
    if thing["kind"] in _NAMED and not _DNS_LABEL.match(name):
        yield Problem(RULE, label(thing), "its name becomes a host name and is no DNS label (63 of a-z, 0-9 and -)")
    if thing["kind"] == "CronJob" and len(name) > 52:
        yield Problem(RULE, label(thing), "a CronJob's name has at most 52 characters")
    yield from _metadata(label(thing), thing["metadata"])


def _metadata(where: str, metadata: Object) -> Iterator[Problem]:
    for key in dig(metadata, "annotations", default={}):
        if key.startswith(_DEPRECATED_ANNOTATIONS):
            yield Problem(RULE, where, f"annotation {key} is deprecated")
    for field in ("labels", "annotations"):
        for key, value in dig(metadata, field, default={}).items():
            if not isinstance(value, str):
                yield Problem(RULE, where, f"{field}: {key} must be quoted: {value!r} is no text")
            elif field == "labels" and (
                len(value) > 63 or not re.fullmatch(r"([A-Za-z0-9]([\w.-]*[A-Za-z0-9])?)?", value)
            ):
                yield Problem(RULE, where, f"labels: {value!r} is no value for {key}")


def _deprecated(thing: Object) -> Iterator[Problem]:
    group, _, served = thing["apiVersion"].rpartition("/")
    builtin = not group or "." not in group or (group.endswith(".k8s.io") and group.count(".") == 2)
    if builtin and not group.startswith(("kueue.", "jobset.")) and re.search(r"(alpha|beta)\d+$", served):
        yield Problem(
            RULE, label(thing), f"{thing['apiVersion']} is off by default, or deprecated: use the stable version"
        )
    if thing["apiVersion"] == "v1" and thing["kind"] in {"Endpoints", "ComponentStatus"}:
        yield Problem(RULE, label(thing), f"v1 {thing['kind']} is deprecated")


def _of_kind(thing: Object) -> Iterator[Problem]:
    where, spec = label(thing), dig(thing, "spec", default={})
    if thing["kind"] == "CronJob" and "TZ=" in str(spec.get("schedule")):
        yield Problem(RULE, where, "schedule: TZ= is refused; use timeZone")
    if thing["kind"] == "Service":
        seen = []
        for port in spec.get("ports") or []:
            key = (port.get("port"), port.get("protocol", "TCP"))
            if key in seen:
                yield Problem(RULE, where, f"ports: {key[0]}/{key[1]} is there twice")
            seen.append(key)
        if len(spec.get("ports") or []) > 1 and not all(port.get("name") for port in spec["ports"]):
            yield Problem(RULE, where, "ports: with more than one, each needs a name")
        if spec.get("clusterIP") == "None" and spec.get("sessionAffinity") == "ClientIP":
            yield Problem(RULE, where, "sessionAffinity is ignored for a headless Service")
    if thing["kind"] == "PersistentVolumeClaim":
        yield from _amounts(where, dig(spec, "resources", default={}))
    chosen = dig(spec, "selector", "matchLabels", default={})
    made = dig(spec, "template", "metadata", "labels", default={})
    if thing["kind"] in {"Deployment", "StatefulSet", "DaemonSet"} and (
        not chosen or not chosen.items() <= made.items()
    ):
        yield Problem(RULE, where, "spec.selector does not choose the labels of its own template")
