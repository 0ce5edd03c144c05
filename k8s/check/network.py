"""NetworkPolicies played through: nothing is open that was not opened, and no path that is used is cut.

The paths in use are read from the manifests themselves: an address ``eclipse-…:port`` in a pod's arguments, environment
or ConfigMaps, a monitor's scrape, a training's ranks among themselves, name look-ups, the API server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from k8s.check.pods import Pod, pods
from k8s.check.references import selected
from k8s.check.rendered import NAMESPACE, Object, Problem, Rendered, dig, label
from k8s.check.selectors import matches

RULE = "network"
_HOME = "kubernetes.io/metadata.name"
_ADDRESS = re.compile(
    r"(?<![\w.-])(?P<host>[a-z][a-z0-9-]*)(?:\.eclipse(?:\.svc(?:\.cluster\.local)?)?)?:(?P<port>\d{2,5})\b"
)
RENDEZVOUS = 29400
"""Port at which Kubeflow Trainer lets the ranks of a training meet; gloo and NCCL then take any other."""


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod here, a pod elsewhere, or (with ``address``) something outside the cluster."""

    labels: dict[str, str]
    namespace: dict[str, str]
    address: str = ""
    ports: tuple[tuple[Any, Any], ...] = ()


DNS = End({"k8s-app": "kube-dns"}, {_HOME: "kube-system"})
PROMETHEUS = End({"app.kubernetes.io/name": "prometheus"}, {_HOME: "monitoring"})
API_SERVER = End({}, {}, "10.96.0.1")


def network(rendered: Rendered) -> Iterator[Problem]:
    """Policies that are missing, and paths that they cut."""
    policies = list(rendered.of("NetworkPolicy"))
    for direction in ("Ingress", "Egress"):
        if not any(_denies(each, direction) for each in policies):
            text = f"no NetworkPolicy denies all {direction} by default (empty podSelector, no rules)"
            yield Problem(RULE, rendered.source, text)
    for each in policies:
        yield from _too_open(each)
    if policies:
        for pod in pods(rendered):
            yield from of_pod(pod, rendered)


def _denies(policy: Object, direction: str) -> bool:
    spec = policy["spec"]
    whole = not (spec.get("podSelector") or {})
    return whole and direction in spec.get("policyTypes", ["Ingress"]) and not spec.get(direction.lower())


def _too_open(policy: Object) -> Iterator[Problem]:
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for rule in dig(policy, "spec", direction, default=[]):
            if not rule.get(peers) and not rule.get("ports"):
                yield Problem(RULE, label(policy), f"an {direction} rule without {peers} and ports opens everything")


def of_pod(pod: Pod, rendered: Rendered) -> Iterator[Problem]:
    """Paths of one pod that the policies cut."""
    policies = list(rendered.of("NetworkPolicy"))
    every = pods(rendered)
    here = end(pod)
    uses = sorted(set(addresses(pod, rendered)))
    for host, port in uses:
        service = rendered.find("Service", host)
        if service is None:
            yield Problem(RULE, pod.where, f"{host}:{port}: Service {host} does not exist")
            continue
        target = [each for each in dig(service, "spec", "ports", default=[]) if each.get("port") == port]
        if not target:
            yield Problem(RULE, pod.where, f"{host}:{port}: Service {host} has no such port")
            continue
        for other in selected(service, every):
            number = _number(target[0].get("targetPort", port), other)
            yield from _path(policies, here, end(other), number, f"{pod.where} → {host}:{port}")
    if uses or _calls_api(pod):
        for protocol in ("UDP", "TCP"):
            yield from _path(policies, here, DNS, 53, f"{pod.where} → name look-ups ({protocol})", protocol)
    if _calls_api(pod) and not any(allows(policies, here, API_SERVER, port) for port in (443, 6443)):
        yield Problem(RULE, pod.where, "mounts a token, but may not reach the API server (443 or 6443)")
    yield from _cut_inwards(pod, rendered, policies)


def _cut_inwards(pod: Pod, rendered: Rendered, policies: list[Object]) -> Iterator[Problem]:
    here = end(pod)
    if pod.kind in {"ClusterTrainingRuntime", "TrainingRuntime"}:
        for port in (RENDEZVOUS, 41234):
            yield from _path(policies, here, here, port, f"{pod.where} → its other ranks, port {port}")
    for port in _scraped(pod, rendered):
        yield from _path(policies, PROMETHEUS, here, port, f"Prometheus → {pod.where}:{port}")


def _path(
    policies: list[Object], source: End, target: End, port: int, text: str, protocol: str = "TCP"
) -> Iterator[Problem]:
    if not allows(policies, source, target, port, protocol):
        yield Problem(RULE, text, "the NetworkPolicies cut this path")


def end(pod: Pod) -> End:
    """A pod of ours as an end of a connection."""
    ports = tuple(
        (port.get("name"), port.get("containerPort"))
        for _, container in pod.main()
        for port in dig(container, "ports", default=[])
    )
    return End(pod.labels, {_HOME: NAMESPACE}, ports=ports)


def allows(policies: list[Object], source: End, target: End, port: int, protocol: str = "TCP") -> bool:
    """Whether ``source`` may connect to ``port`` of ``target``: its egress and the other's ingress allow it."""
    leaves = _side(policies, "egress", source, target, target, port, protocol)
    return leaves and _side(policies, "ingress", target, source, target, port, protocol)


def _side(policies: list[Object], direction: str, owner: End, peer: End, target: End, port: int, protocol: str) -> bool:
    if owner.namespace.get(_HOME) != NAMESPACE:
        return True
    types = {"ingress": "Ingress", "egress": "Egress"}[direction]
    own = [each["spec"] for each in policies if matches(each["spec"].get("podSelector") or {}, owner.labels)]
    own = [spec for spec in own if types in spec.get("policyTypes", ["Ingress"])]
    if not own:
        return True
    rules = [rule for spec in own for rule in spec.get(direction) or []]
    peers = "to" if direction == "egress" else "from"
    return any(_peer(rule.get(peers), peer) and _port(rule.get("ports"), target, port, protocol) for rule in rules)


def _peer(given: list[Object] | None, other: End) -> bool:
    if not given:
        return True
    return any(_one_peer(each, other) for each in given)


def _one_peer(given: Object, other: End) -> bool:
    block = given.get("ipBlock")
    if block:
        if not other.address:
            return False
        address = ip_address(other.address)
        within = address in ip_network(block["cidr"])
        return within and not any(address in ip_network(each) for each in block.get("except") or [])
    if other.address:
        return False
    if "namespaceSelector" in given:
        if not matches(given["namespaceSelector"] or {}, other.namespace):
            return False
    elif other.namespace.get(_HOME) != NAMESPACE:
        return False
    return "podSelector" not in given or matches(given["podSelector"] or {}, other.labels)


def _port(given: list[Object] | None, target: End, port: int, protocol: str) -> bool:
    if not given:
        return True
    named = dict(target.ports)
    for each in given:
        if each.get("protocol", "TCP") != protocol:
            continue
        first = named.get(each.get("port"), each.get("port")) if "port" in each else port
        if isinstance(first, int) and first <= port <= each.get("endPort", first):
            return True
    return False


def addresses(pod: Pod, rendered: Rendered) -> Iterator[tuple[str, int]]:
    """(Service, port) that a pod's arguments, environment and ConfigMaps name."""
    texts = []
    for _, container in pod.containers():
        texts += [*dig(container, "command", default=[]), *dig(container, "args", default=[])]
        texts += [each.get("value", "") for each in dig(container, "env", default=[])]
        names = [dig(each, "configMapRef", "name") for each in dig(container, "envFrom", default=[])]
        texts += [text for name in names if name for text in _values(rendered, name)]
    for volume in dig(pod.spec, "volumes", default=[]):
        texts += _values(rendered, str(dig(volume, "configMap", "name")))
    for text in texts:
        for match in _ADDRESS.finditer(str(text)):
            if match["host"].startswith("eclipse-"):
                yield match["host"], int(match["port"])


def _values(rendered: Rendered, name: str) -> list[str]:
    return [str(text) for text in dig(rendered.find("ConfigMap", name), "data", default={}).values()]


def _number(port: Any, pod: Pod) -> int:
    return int(dict(end(pod).ports).get(port, port)) if not isinstance(port, int) else port


def _calls_api(pod: Pod) -> bool:
    return dig(pod.spec, "automountServiceAccountToken") is True


def _scraped(pod: Pod, rendered: Rendered) -> set[int]:
    """Ports of a pod that a monitor has Prometheus read."""
    found = set()
    for thing in rendered.of("PodMonitor"):
        if matches(dig(thing, "spec", "selector", default={}), pod.labels):
            found |= {_number(each["port"], pod) for each in dig(thing, "spec", "podMetricsEndpoints", default=[])}
    for thing in rendered.of("ServiceMonitor"):
        for service in rendered.of("Service"):
            labels = dig(service, "metadata", "labels", default={})
            if not matches(dig(thing, "spec", "selector", default={}), labels) or pod not in selected(service, [pod]):
                continue
            wanted = {each.get("port") for each in dig(thing, "spec", "endpoints", default=[])}
            ports = [each for each in dig(service, "spec", "ports", default=[]) if each.get("name") in wanted]
            found |= {_number(each.get("targetPort", each["port"]), pod) for each in ports}
    return found
