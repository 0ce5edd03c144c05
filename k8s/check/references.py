"""Every name that an object refers to exists: ConfigMaps, Secrets, claims, accounts, ports, targets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from k8s.check.pods import Pod, pods
from k8s.check.rendered import Object, Problem, Rendered, dig, label, name_of
from k8s.check.selectors import matches

RULE = "reference"
SECRETS = {
    "eclipse-s3": {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"},
    "eclipse-postgres": {"username", "password"},
    "eclipse-api": {"key"},
}
"""Secrets that a person makes before applying an overlay (docs/kubernetes.md), and the keys each must have."""

CONTROLLERS = (
    "prefect.io/",
    "trainer.kubeflow.org/",
    "jobset.sigs.k8s.io/",
    "batch.kubernetes.io/",
    "pipelines.kubeflow.org/",
)
"""Prefixes of labels that controllers set on the pods they make."""


def references(rendered: Rendered) -> Iterator[Problem]:
    """References that lead nowhere."""
    every = pods(rendered)
    for pod in every:
        yield from of_pod(pod, rendered)
    for thing in rendered.of("Service"):
        yield from _service(thing, every)
    for thing in rendered.of("StatefulSet"):
        yield from _named(rendered, thing, "Service", dig(thing, "spec", "serviceName"), "spec.serviceName")
    for thing in rendered.of("HorizontalPodAutoscaler"):
        target = dig(thing, "spec", "scaleTargetRef", default={})
        yield from _named(rendered, thing, str(target.get("kind")), target.get("name"), "spec.scaleTargetRef")
    for thing in rendered.of("RoleBinding", "ClusterRoleBinding"):
        yield from _binding(thing, rendered)
    for thing in rendered.of("PodDisruptionBudget", "NetworkPolicy"):
        yield from _selector(thing, every)
    for thing in rendered.of("ServiceMonitor", "PodMonitor"):
        yield from _monitor(thing, rendered, every)
    for thing in rendered.of("HTTPRoute", "Ingress"):
        yield from _backends(thing, rendered)


def of_pod(pod: Pod, rendered: Rendered) -> Iterator[Problem]:
    """References of one pod that lead nowhere."""
    account = dig(pod.spec, "serviceAccountName")
    if account and not rendered.find("ServiceAccount", account):
        yield Problem(RULE, pod.where, f"ServiceAccount {account} does not exist")
    priority = dig(pod.spec, "priorityClassName")
    if priority and not priority.startswith("system-") and not rendered.find("PriorityClass", priority):
        yield Problem(RULE, pod.where, f"PriorityClass {priority} does not exist")
    for source, name, keys, optional in _sources(pod):
        yield from _source(pod, rendered, source, name, keys, optional)
    yield from _mounts(pod)


def _sources(pod: Pod) -> Iterator[tuple[str, str, list[str], bool]]:
    """(kind, name, keys, optional) of every ConfigMap, Secret and claim that the pod names."""
    for _, container in pod.containers():
        for each in dig(container, "envFrom", default=[]):
            for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if field in each:
                    yield kind, each[field].get("name"), [], bool(each[field].get("optional"))
        for each in dig(container, "env", default=[]):
            for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                found = dig(each, "valueFrom", field)
                if found:
                    yield kind, found.get("name"), [found.get("key")], bool(found.get("optional"))
    for volume in dig(pod.spec, "volumes", default=[]):
        parts = [volume, *dig(volume, "projected", "sources", default=[])]
        for part in parts:
            yield from _volume_sources(part)


def _volume_sources(part: Object) -> Iterator[tuple[str, str, list[str], bool]]:
    for field, kind in (("configMap", "ConfigMap"), ("secret", "Secret")):
        found = part.get(field)
        if found is not None:
            keys = [item.get("key") for item in found.get("items") or []]
            yield kind, found.get("name") or found.get("secretName"), keys, bool(found.get("optional"))
    claim = dig(part, "persistentVolumeClaim", "claimName")
    if claim:
        yield "PersistentVolumeClaim", claim, [], False


def _source(pod: Pod, rendered: Rendered, kind: str, name: str, keys: list[str], optional: bool) -> Iterator[Problem]:
    if kind == "Secret":
        if name not in SECRETS:
            known = ", ".join(SECRETS)
            yield Problem(RULE, pod.where, f"Secret {name} is none of those that docs/kubernetes.md has made ({known})")
        for key in sorted(set(keys) - SECRETS.get(name, set(keys))):
            yield Problem(RULE, pod.where, f"Secret {name} has no key {key}")
        return
    found = rendered.find(kind, name)
    if found is None:
        if not optional:
            yield Problem(RULE, pod.where, f"{kind} {name} does not exist")
        return
    held = {**dig(found, "data", default={}), **dig(found, "binaryData", default={})}
    for key in keys:
        if kind == "ConfigMap" and key not in held and not optional:
            yield Problem(RULE, pod.where, f"ConfigMap {name} has no key {key}")


def _mounts(pod: Pod) -> Iterator[Problem]:
    volumes = [volume.get("name") for volume in dig(pod.spec, "volumes", default=[])]
    volumes += [name_of(claim) for claim in dig(pod.owner, "spec", "volumeClaimTemplates", default=[])]
    used = set()
    for where, container in pod.containers():
        for mount in dig(container, "volumeMounts", default=[]):
            used.add(mount.get("name"))
            if mount.get("name") not in volumes:
                yield Problem(RULE, where, f"volumeMounts: there is no volume {mount.get('name')}")
        ports = [port.get("name") for port in dig(container, "ports", default=[])]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            for action in ("httpGet", "tcpSocket", "grpc"):
                port = dig(container, probe, action, "port")
                if isinstance(port, str) and port not in ports:
                    yield Problem(RULE, where, f"{probe}: there is no port named {port}")
    for name in sorted({name for name in volumes if name} - used):
        yield Problem(RULE, pod.where, f"volume {name} is mounted nowhere")


def container_ports(pod: Pod) -> set[Any]:
    """Names and numbers of the ports that a pod declares."""
    ports = [port for _, container in pod.main() for port in dig(container, "ports", default=[])]
    return {port.get("name") for port in ports} | {port.get("containerPort") for port in ports}


def selected(service: Object, every: list[Pod]) -> list[Pod]:
    """The pods behind a Service."""
    wanted = dig(service, "spec", "selector", default={})
    return [pod for pod in every if wanted and wanted.items() <= pod.labels.items()]


def _service(thing: Object, every: list[Pod]) -> Iterator[Problem]:
    if dig(thing, "spec", "selector") is None:
        return
    behind = selected(thing, every)
    if not behind:
        yield Problem(RULE, label(thing), "its selector chooses no pod")
    for port in dig(thing, "spec", "ports", default=[]):
        target = port.get("targetPort", port.get("port"))
        for pod in behind:
            if target not in container_ports(pod):
                yield Problem(RULE, label(thing), f"targetPort {target} is no port of {pod.where}")


def _named(rendered: Rendered, thing: Object, kind: str, name: str | None, field: str) -> Iterator[Problem]:
    if name and not rendered.find(kind, name):
        yield Problem(RULE, label(thing), f"{field}: {kind} {name} does not exist")


def _binding(thing: Object, rendered: Rendered) -> Iterator[Problem]:
    role = dig(thing, "roleRef", default={})
    yield from _named(rendered, thing, str(role.get("kind")), role.get("name"), "roleRef")
    for subject in dig(thing, "subjects", default=[]):
        if subject.get("kind") == "ServiceAccount":
            yield from _named(rendered, thing, "ServiceAccount", subject.get("name"), "subjects")
            if subject.get("namespace") != dig(thing, "metadata", "namespace"):
                yield Problem(RULE, label(thing), f"subjects: {subject.get('name')} has another namespace, or none")


def _selector(thing: Object, every: list[Pod]) -> Iterator[Problem]:
    field = "podSelector" if thing["kind"] == "NetworkPolicy" else "selector"
    selector = dig(thing, "spec", field, default={})
    if selector and not any(matches(selector, pod.labels) for pod in every) and not _of_jobs(selector):
        yield Problem(RULE, label(thing), f"spec.{field} chooses no pod")


def _of_jobs(selector: Object) -> bool:
    """Whether it chooses pods that no manifest makes: those of jobs, which come later, carry these labels."""
    wanted = dig(selector, "matchLabels", default={})
    keys = [*wanted, *(each["key"] for each in dig(selector, "matchExpressions", default=[]))]
    if any(key.startswith(CONTROLLERS) for key in keys):
        return True
    return wanted.get("app.kubernetes.io/component") in {"training", "extraction", "orchestration"}


def _monitor(thing: Object, rendered: Rendered, every: list[Pod]) -> Iterator[Problem]:
    selector = dig(thing, "spec", "selector", default={})
    if thing["kind"] == "PodMonitor":
        chosen = [pod for pod in every if matches(selector, pod.labels)]
        offered = [container_ports(pod) for pod in chosen]
        endpoints = dig(thing, "spec", "podMetricsEndpoints", default=[])
    else:
        services = [
            each for each in rendered.of("Service") if matches(selector, dig(each, "metadata", "labels", default={}))
        ]
        offered = [{port.get("name") for port in dig(each, "spec", "ports", default=[])} for each in services]
        endpoints = dig(thing, "spec", "endpoints", default=[])
    if not offered:
        yield Problem(RULE, label(thing), "its selector chooses nothing")
    for endpoint in endpoints:
        for ports in offered:
            if endpoint.get("port") is not None and endpoint["port"] not in ports:
                yield Problem(RULE, label(thing), f"port {endpoint['port']} is not there")


def _backends(thing: Object, rendered: Rendered) -> Iterator[Problem]:
    for rule in dig(thing, "spec", "rules", default=[]):
        for backend in dig(rule, "backendRefs", default=[]):
            yield from _backend(thing, rendered, backend.get("name"), backend.get("port"))
        for path in dig(rule, "http", "paths", default=[]):
            service = dig(path, "backend", "service", default={})
            port = dig(service, "port", default={})
            yield from _backend(thing, rendered, service.get("name"), port.get("number") or port.get("name"))


def _backend(thing: Object, rendered: Rendered, name: str, port: Any) -> Iterator[Problem]:
    service = rendered.find("Service", name)
    if service is None:
        yield Problem(RULE, label(thing), f"Service {name} does not exist")
        return
    ports = dig(service, "spec", "ports", default=[])
    if port not in {each.get("port") for each in ports} | {each.get("name") for each in ports}:
        yield Problem(RULE, label(thing), f"Service {name} has no port {port}")
