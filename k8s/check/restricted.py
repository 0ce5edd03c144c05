"""The Pod Security Standard "restricted" as Kubernetes 1.34 enforces it, and the house's own additions.

A namespace that enforces it refuses pods, but only *warns* of a Deployment or a CronJob whose pods it would refuse, and
says nothing of a training runtime's. So the templates themselves are checked.
"""

from __future__ import annotations

from collections.abc import Iterator

from k8s.check.pods import Pod
from k8s.check.rendered import Object, Problem, dig

RULE = "pod-security"
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
_SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}
_HANDLERS = ("livenessProbe", "readinessProbe", "startupProbe")
_SELINUX = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}


def restricted(pod: Pod) -> Iterator[Problem]:
    """What Pod Security would refuse of this pod, and a writable root file system."""
    for text in _of_pod(pod.spec):
        yield Problem(RULE, pod.where, text)
    for where, container in pod.containers():
        for text in (*_of_container(container, pod.spec), *_of_handlers(container)):
            yield Problem(RULE, where, text)
        if dig(container, "securityContext", "readOnlyRootFilesystem") is not True:
            yield Problem("read-only", where, "securityContext.readOnlyRootFilesystem must be true")


def _of_pod(spec: Object) -> Iterator[str]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield f"{name} must not be set"
    for volume in dig(spec, "volumes", default=[]):
        sources = set(volume) - {"name"}
        if not sources:
            yield f"volume {volume.get('name')}: has no source"
        for source in sorted(sources - VOLUMES):
            yield f"volume {volume.get('name')}: {source} is not allowed"
    for sysctl in dig(spec, "securityContext", "sysctls", default=[]):
        if sysctl.get("name") not in _SYSCTLS:
            yield f"sysctl {sysctl.get('name')} is not allowed"
    yield from _of_context(dig(spec, "securityContext", default={}))


def _of_context(context: Object) -> Iterator[str]:
    """What holds of a pod's and of a container's security context alike."""
    if context.get("runAsUser") == 0:
        yield "runAsUser must not be 0"
    if context.get("runAsNonRoot") is False:
        yield "runAsNonRoot must not be false"
    kind = dig(context, "seccompProfile", "type")
    if kind not in {None, "RuntimeDefault", "Localhost"}:
        yield f"seccompProfile.type {kind} is not allowed"
    if dig(context, "windowsOptions", "hostProcess"):
        yield "windowsOptions.hostProcess must not be set"
    profile = dig(context, "appArmorProfile", "type")
    if profile not in {None, "RuntimeDefault", "Localhost"}:
        yield f"appArmorProfile.type {profile} is not allowed"
    selinux = dig(context, "seLinuxOptions", default={})
    if selinux.get("type", "") not in _SELINUX or selinux.get("user") or selinux.get("role"):
        yield "seLinuxOptions: user, role and such a type must not be set"


def _of_container(container: Object, spec: Object) -> Iterator[str]:
    context = dig(container, "securityContext", default={})
    of_pod = dig(spec, "securityContext", default={})
    yield from _of_context(context)
    yield from _of_privileges(context)
    if context.get("runAsNonRoot", of_pod.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot must be true, for the pod or the container"
    if not dig(context, "seccompProfile", "type", default=dig(of_pod, "seccompProfile", "type")):
        yield "seccompProfile.type must be set, for the pod or the container"
    for port in dig(container, "ports", default=[]):
        if port.get("hostPort"):
            yield f"hostPort {port['hostPort']} must not be set"


def _of_privileges(context: Object) -> Iterator[str]:
    if context.get("privileged"):
        yield "securityContext.privileged must not be set"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "securityContext.allowPrivilegeEscalation must be false"
    if context.get("procMount", "Default") != "Default":
        yield "securityContext.procMount must not be set"
    if "ALL" not in dig(context, "capabilities", "drop", default=[]):
        yield "securityContext.capabilities.drop must hold ALL"
    for capability in dig(context, "capabilities", "add", default=[]):
        if capability != "NET_BIND_SERVICE":
            yield f"capability {capability} must not be added"


def _of_handlers(container: Object) -> Iterator[str]:
    """Since 1.34 a probe or a lifecycle hook that names a host is refused."""
    lifecycle = dig(container, "lifecycle", default={})
    handlers = {name: container.get(name) for name in _HANDLERS}
    handlers |= {f"lifecycle.{name}": lifecycle.get(name) for name in ("postStart", "preStop")}
    for name, handler in handlers.items():
        for action in ("httpGet", "tcpSocket"):
            if dig(handler, action, "host"):
                yield f"{name}.{action}.host must not be set"
