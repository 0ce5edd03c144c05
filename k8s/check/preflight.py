"""Whether a cluster can take an overlay: asked before it is applied, answered in words of a person.

Each finding names what is missing and what to do about it; docs/runbook.md has the same for what shows only later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from k8s.check.cluster import Cluster
from k8s.check.pods import Pod, pods
from k8s.check.policy import OWN_IMAGES
from k8s.check.quantities import asked, plain, quantity
from k8s.check.quota import needed
from k8s.check.references import SECRETS
from k8s.check.rendered import NAMESPACE, Object, Rendered, dig, name_of

GPU = "nvidia.com/gpu"
OLDEST = (1, 31)
"""Oldest server: pod failure policies are stable since then."""
_INSTALL = {
    "trainer.kubeflow.org": "install Kubeflow Trainer",
    "jobset.x-k8s.io": "install JobSet (Kubeflow Trainer's manifests bring it)",
    "kueue.x-k8s.io": "install Kueue 0.15 or newer",
    "monitoring.coreos.com": "install the Prometheus operator",
}


@dataclass(frozen=True)
class Finding:
    """One answer: ``fatal`` ones have to be mended before the overlay is applied, the others are worth knowing."""

    about: str
    text: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{'missing' if self.fatal else 'note'}: {self.about}: {self.text}"


def preflight(rendered: Rendered, overlay: Path, context: str | None = None) -> list[Finding]:
    """Ask the cluster everything. Raises ``ManifestError`` where it does not answer at all."""
    cluster = Cluster(context)
    found = [*_version(cluster), *_kinds(cluster, rendered), *_storage(cluster, rendered)]
    nodes = [node for node in cluster.items("/api/v1/nodes") if _ready(node)]
    if not nodes:
        found.append(Finding("nodes", "none is ready; `kubectl get nodes`"))
    for pod in pods(rendered):
        found += _fits(pod, nodes)
    found += [*_images(rendered, nodes), *_metrics(cluster, rendered), *_namespace(cluster, rendered)]
    there = cluster.get(f"/api/v1/namespaces/{NAMESPACE}") is not None
    if there and not any(finding.fatal for finding in found):
        found += _dry_run(cluster, overlay)
    return list(dict.fromkeys(found))


def _version(cluster: Cluster) -> Iterator[Finding]:
    said = cluster.get("/version") or {}
    digits = ["".join(filter(str.isdigit, str(said.get(part, "0")))) or "0" for part in ("major", "minor")]
    if (int(digits[0]), int(digits[1])) < OLDEST:
        yield Finding("server", f"Kubernetes {said.get('gitVersion')}; {OLDEST[0]}.{OLDEST[1]} or newer is needed")


def _kinds(cluster: Cluster, rendered: Rendered) -> Iterator[Finding]:
    """Custom resources whose CRDs are not there, or not in this version."""
    for version in sorted({each["apiVersion"] for each in rendered.objects}):
        served = cluster.get(f"/apis/{version}" if "/" in version else f"/api/{version}")
        kinds = {each.get("kind") for each in (served or {}).get("resources") or []}
        for kind in sorted({each["kind"] for each in rendered.objects if each["apiVersion"] == version} - kinds):
            group = version.partition("/")[0]
            yield Finding(f"{version} {kind}", _INSTALL.get(group, "this server does not know it"))


def _storage(cluster: Cluster, rendered: Rendered) -> Iterator[Finding]:
    classes = cluster.items("/apis/storage.k8s.io/v1/storageclasses")
    names = {name_of(each) for each in classes}
    default = [
        each
        for each in classes
        if dig(each, "metadata", "annotations", "storageclass.kubernetes.io/is-default-class") == "true"
    ]
    claims = list(rendered.of("PersistentVolumeClaim"))
    for thing in rendered.of("StatefulSet"):
        claims += dig(thing, "spec", "volumeClaimTemplates", default=[])
    for claim in claims:
        wanted = dig(claim, "spec", "storageClassName")
        if wanted and wanted not in names:
            yield Finding(
                f"StorageClass {wanted}", f"claim {name_of(claim)} names it; there are {sorted(names) or 'none'}"
            )
        if not wanted and not default:
            text = (
                f"claim {name_of(claim)} would wait for ever; mark one of {sorted(names) or 'none at all'} as default"
            )
            yield Finding("default StorageClass", text)


def _ready(node: Object) -> bool:
    conditions = dig(node, "status", "conditions", default=[])
    ready = any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)
    return ready and not dig(node, "spec", "unschedulable")


def _fits(pod: Pod, nodes: list[Object]) -> Iterator[Finding]:
    """A pod that no node could ever run, even an empty one."""
    if not nodes:
        return
    chosen = [node for node in nodes if _chosen(pod, node)]
    wanted = asked(pod, "requests")
    gpus = wanted.get(GPU, 0)
    if gpus and not any(_has(node, GPU) >= gpus for node in nodes):
        most = max(_has(node, GPU) for node in nodes)
        text = f"wants {gpus} GPUs, the most on a ready node is {most}: add a GPU node, install NVIDIA's device plugin"
        yield Finding(pod.where, f"{text}, or apply k8s/overlays/local")
    elif not chosen:
        selector = dig(pod.spec, "nodeSelector", default={})
        yield Finding(pod.where, f"no ready node has the labels {selector} and only taints that it tolerates")
    elif not any(all(_has(node, name) >= amount for name, amount in wanted.items()) for node in chosen):
        text = ", ".join(f"{name} {plain(amount)}" for name, amount in sorted(wanted.items()))
        yield Finding(pod.where, f"wants {text}; no node is so large: lower its requests in the overlay, or add a node")


def _chosen(pod: Pod, node: Object) -> bool:
    labels = dig(node, "metadata", "labels", default={})
    if not dig(pod.spec, "nodeSelector", default={}).items() <= labels.items():
        return False
    taints = [taint for taint in dig(node, "spec", "taints", default=[]) if taint.get("effect") != "PreferNoSchedule"]
    return all(any(_tolerates(each, taint) for each in dig(pod.spec, "tolerations", default=[])) for taint in taints)


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") not in {None, "", taint.get("effect")}:
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in {None, "", taint.get("key")}
    return (toleration.get("key"), toleration.get("value")) == (taint.get("key"), taint.get("value"))


def _has(node: Object, name: str) -> Decimal:
    return quantity(dig(node, "status", "allocatable", name, default=0))


def _images(rendered: Rendered, nodes: list[Object]) -> Iterator[Finding]:
    """Our images without a registry's name are nowhere to be pulled from: they must lie on the nodes."""
    there = {
        name for node in nodes for each in dig(node, "status", "images", default=[]) for name in each.get("names") or []
    }
    used = {str(container.get("image")) for pod in pods(rendered) for _, container in pod.containers()}
    for image in sorted(used):
        first = image.partition("/")[0]
        if image.partition(":")[0] in OWN_IMAGES and not any(
            name.endswith(f"/{image}") or name == image for name in there
        ):
            text = "no registry in its name, on no node: `kind load docker-image`, or newName in the overlay's images"
            yield Finding(f"image {image}", text, fatal=bool(there))
        elif "/" in image and "." not in first and ":" not in first and "@" not in image:
            yield Finding(
                f"image {image}", "comes from the nodes' default registry; a mirror can be set by newName", False
            )


def _metrics(cluster: Cluster, rendered: Rendered) -> Iterator[Finding]:
    """An autoscaler without its metrics API scales nothing, and says so only in its own status."""
    apis = {"Resource": "metrics.k8s.io/v1beta1", "Pods": "custom.metrics.k8s.io", "Object": "custom.metrics.k8s.io"}
    apis["External"] = "external.metrics.k8s.io"
    for thing in rendered.of("HorizontalPodAutoscaler"):
        for kind in sorted({str(each.get("type")) for each in dig(thing, "spec", "metrics", default=[])}):
            if kind in apis and cluster.get(f"/apis/{apis[kind]}") is None:
                server = "metrics-server" if kind == "Resource" else "the Prometheus adapter"
                text = f"needs {apis[kind]}: install {server}; until then the number of replicas stays as it is"
                yield Finding(f"HorizontalPodAutoscaler {name_of(thing)}", text, False)


def _namespace(cluster: Cluster, rendered: Rendered) -> Iterator[Finding]:
    if cluster.get(f"/api/v1/namespaces/{NAMESPACE}") is None:
        text = "not there yet: `kubectl apply -f k8s/base/namespace.yaml`, then its Secrets (docs/kubernetes.md)"
        yield Finding(f"namespace {NAMESPACE}", text)
        return
    yield from _secrets(cluster, rendered)
    yield from _quotas(cluster, rendered)


def _secrets(cluster: Cluster, rendered: Rendered) -> Iterator[Finding]:
    """Secrets that pods refer to, and their keys; their values are not looked at."""
    text = str(rendered.objects)
    for name, keys in SECRETS.items():
        if f"'{name}'" not in text:
            continue
        found = cluster.get(f"/api/v1/namespaces/{NAMESPACE}/secrets/{name}")
        lacks = sorted(keys - set(dig(found, "data", default={})))
        if lacks:
            yield Finding(
                f"Secret {name}", f"has no {', '.join(lacks)}; docs/kubernetes.md has the command that makes it"
            )


def _quotas(cluster: Cluster, rendered: Rendered) -> Iterator[Finding]:
    """A quota that somebody set on the namespace, against all that the overlay's servers need."""
    wanted = needed(rendered)
    own = {name_of(each) for each in rendered.of("ResourceQuota")}
    for thing in cluster.items(f"/api/v1/namespaces/{NAMESPACE}/resourcequotas"):
        if name_of(thing) in own or dig(thing, "spec", "scopes"):
            continue
        for name, limit in dig(thing, "spec", "hard", default={}).items():
            if wanted[name] > quantity(limit):
                text = f"{name}: {plain(wanted[name])} needed, {limit} allowed: raise it, or lower replicas"
                yield Finding(f"ResourceQuota {name_of(thing)}", text)


def _dry_run(cluster: Cluster, overlay: Path) -> Iterator[Finding]:
    taken, lines = cluster.dry_run(str(overlay))
    for line in lines:
        yield Finding("kubectl apply --dry-run=server", line)
    if not taken and not lines:
        yield Finding("kubectl apply --dry-run=server", "failed without a word")
