"""The house's rules for workloads: images, resources, probes, labels, accounts, secrets, roll-outs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import lru_cache

from k8s.check.pods import Pod, pods
from k8s.check.quantities import quantity
from k8s.check.rendered import NAMESPACE, ROOT, Object, Problem, Rendered, dig, label

OWN_IMAGES = ("eclipse-trainer", "eclipse-server")
COMPONENTS = {"serving", "tracking", "orchestration", "training", "extraction", "database", "storage", "monitoring"}
USER = 10001
_LABEL = "app.kubernetes.io/"
_PSS = "pod-security.kubernetes.io/"
_CLUSTER_WIDE = {
    "Namespace",
    "ClusterRole",
    "ClusterRoleBinding",
    "PriorityClass",
    "StorageClass",
    "CustomResourceDefinition",
    "ClusterTrainingRuntime",
    "ClusterQueue",
    "Cohort",
    "ResourceFlavor",
    "Topology",
    "WorkloadPriorityClass",
    "RuntimeClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}
_IMAGE = re.compile(r"^(?P<name>[^@]+?)(?::(?P<tag>[\w][\w.-]*))?(?:@sha256:(?P<digest>[0-9a-f]{64}))?$")


def policy(rendered: Rendered) -> Iterator[Problem]:
    """What breaks a rule of the house."""
    for thing in rendered.objects:
        yield from _labelled(thing)
        yield from _placed(thing)
        yield from _no_secret(thing)
        yield from _privileges(thing)
    for pod in pods(rendered):
        yield from of_pod(pod)
    yield from _namespace(rendered)
    yield from _rollouts(rendered)


def of_pod(pod: Pod) -> Iterator[Problem]:
    """What breaks a rule in one pod template."""
    for where, container in pod.containers():
        yield from _image(where, container)
        yield from _resources(where, container)
        yield from _user(where, container, pod)
    if pod.serves:
        for where, container in pod.main():
            yield from _probes(where, container)
    yield from _account(pod)
    if pod.serves:
        yield from _labels(pod.where, pod.labels)


def _image(where: str, container: Object) -> Iterator[Problem]:
    image = str(container.get("image") or "")
    match = _IMAGE.match(image)
    if not match or not (match["tag"] or match["digest"]) or match["tag"] == "latest":
        yield Problem("image", where, f"image {image!r} needs a tag other than latest, or a digest")
    elif match["name"].rpartition("/")[2] in OWN_IMAGES and not match["digest"] and match["tag"] != version():
        yield Problem("image", where, f"image {image}: the tag is {version()}, the package's version")


@lru_cache
def version() -> str:
    """The package's version, which is the tag of its images."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def _resources(where: str, container: Object) -> Iterator[Problem]:
    resources = dig(container, "resources", default={})
    for what in ("requests", "limits"):
        for name in ("cpu", "memory"):
            if dig(resources, what, name) is None:
                yield Problem("resources", where, f"resources.{what}.{name} is missing")
        for name, value in dig(resources, what, default={}).items():
            try:
                quantity(value)
            except ValueError as error:
                yield Problem("resources", where, f"resources.{what}.{name}: {error}")
                return
    for name, wanted in dig(resources, "requests", default={}).items():
        limit = dig(resources, "limits", name)
        if limit is not None and quantity(wanted) > quantity(limit):
            yield Problem("resources", where, f"requests more {name} ({wanted}) than its limit ({limit})")
        if "/" in name and limit != wanted:
            yield Problem("resources", where, f"{name} must be the same in requests and limits")


def _user(where: str, container: Object, pod: Pod) -> Iterator[Problem]:
    name = str(container.get("image") or "").partition("@")[0].rpartition("/")[2].partition(":")[0]
    user = dig(container, "securityContext", "runAsUser", default=dig(pod.spec, "securityContext", "runAsUser"))
    if name in OWN_IMAGES and user != USER:
        yield Problem("user", where, f"runs as {user}; the image's user is {USER}")
    if user is None:
        yield Problem("user", where, "runAsUser is missing: an image whose user is a name cannot be told from root")


def _probes(where: str, container: Object) -> Iterator[Problem]:
    for probe in ("readinessProbe", "livenessProbe"):
        if not container.get(probe):
            yield Problem("probes", where, f"{probe} is missing")
    if "serving" in where and not container.get("startupProbe"):
        yield Problem(
            "probes", where, "startupProbe is missing: loading models would be cut short by the liveness probe"
        )


def _account(pod: Pod) -> Iterator[Problem]:
    if dig(pod.spec, "serviceAccountName") in {None, "default"}:
        yield Problem("account", pod.where, "serviceAccountName must be named, and not be default")
    if dig(pod.spec, "automountServiceAccountToken") is None:
        yield Problem(
            "account", pod.where, "automountServiceAccountToken must be said: true only for what calls the API"
        )


def _labelled(thing: Object) -> Iterator[Problem]:
    if thing["kind"] not in {"List"}:
        yield from _labels(label(thing), dig(thing, "metadata", "labels", default={}))


def _labels(where: str, labels: dict[str, str]) -> Iterator[Problem]:
    for name in ("name", "component", "part-of"):
        if not labels.get(_LABEL + name):
            yield Problem("labels", where, f"label {_LABEL}{name} is missing")
    if labels.get(f"{_LABEL}component", "serving") not in COMPONENTS:
        yield Problem("labels", where, f"label {_LABEL}component must be one of {', '.join(sorted(COMPONENTS))}")
    if labels.get(f"{_LABEL}part-of", NAMESPACE) != NAMESPACE:
        yield Problem("labels", where, f"label {_LABEL}part-of must be {NAMESPACE}")


def _placed(thing: Object) -> Iterator[Problem]:
    """Every object that lives in a namespace names ours: without it, it goes where the person happens to be."""
    namespace = dig(thing, "metadata", "namespace")
    if thing["kind"] in _CLUSTER_WIDE:
        if namespace:
            yield Problem("namespace", label(thing), "lives in no namespace; metadata.namespace must not be set")
    elif namespace != NAMESPACE:
        yield Problem("namespace", label(thing), f"metadata.namespace is {namespace!r}, not {NAMESPACE!r}")


def _namespace(rendered: Rendered) -> Iterator[Problem]:
    found = rendered.find("Namespace", NAMESPACE)
    if found is None:
        yield Problem("namespace", rendered.source, f"there is no Namespace {NAMESPACE}")
        return
    for mode in ("enforce", "audit", "warn"):
        if dig(found, "metadata", "labels", _PSS + mode) != "restricted":
            yield Problem("namespace", label(found), f"label {_PSS}{mode} must be restricted")


def _no_secret(thing: Object) -> Iterator[Problem]:
    if thing["kind"] == "Secret":
        yield Problem("secrets", label(thing), "a Secret is made by a person or an operator, never by a manifest here")


def _privileges(thing: Object) -> Iterator[Problem]:
    """Roles as small as can be: no wildcard, no secrets, nothing that hands out rights; only a namespace's own."""
    if thing["kind"] == "ClusterRoleBinding":
        yield Problem("rbac", label(thing), "binds across namespaces; use a RoleBinding")
    if thing["kind"] not in {"Role", "ClusterRole"}:
        return
    for rule in dig(thing, "rules", default=[]):
        said = [*rule.get("verbs", []), *rule.get("resources", []), *rule.get("apiGroups", [])]
        if "*" in said:
            yield Problem("rbac", label(thing), "a rule has a wildcard")
        if "secrets" in rule.get("resources", []):
            yield Problem("rbac", label(thing), "may read or write secrets")
        for verb in sorted({"escalate", "bind", "impersonate"} & set(rule.get("verbs", []))):
            yield Problem("rbac", label(thing), f"verb {verb} hands out rights")


def _rollouts(rendered: Rendered) -> Iterator[Problem]:
    """A new version of the service never takes away capacity, and a drained node leaves one pod."""
    for thing in rendered.of("Deployment"):
        if dig(thing, "metadata", "labels", f"{_LABEL}component") != "serving":
            continue
        rolling = dig(thing, "spec", "strategy", "rollingUpdate", default={})
        if rolling.get("maxUnavailable") != 0 or rolling.get("maxSurge") in {None, 0}:
            yield Problem("rollout", label(thing), "strategy.rollingUpdate must have maxUnavailable 0 and a maxSurge")
        chosen = dig(thing, "spec", "template", "metadata", "labels", default={})
        if not any(_selects(each, chosen) for each in rendered.of("PodDisruptionBudget")):
            yield Problem("rollout", label(thing), "no PodDisruptionBudget selects its pods")


def _selects(budget: Object, labels: dict[str, str]) -> bool:
    wanted = dig(budget, "spec", "selector", "matchLabels", default={})
    return bool(wanted) and wanted.items() <= labels.items()
