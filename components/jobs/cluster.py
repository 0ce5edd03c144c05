"""The cluster's API, as far as jobs need it: create, read and delete a job, see its pods, follow their logs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from kubernetes import client, config
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError

from components.jobs.errors import FailedError, JobError
from components.jobs.manifest import JOB, TRAINJOB

_SECONDS = 30
_TRIES = 3
_APIS = {
    TRAINJOB: ("trainer.kubeflow.org", "v1alpha1", "trainjobs"),
    JOB: ("batch", "v1", "jobs"),
}
_OWNER = {TRAINJOB: "jobset.sigs.k8s.io/jobset-name", JOB: "batch.kubernetes.io/job-name"}
_INDEX = "batch.kubernetes.io/job-completion-index"
State = Literal["created", "queued", "running", "done", "failed", "deleted"]


@dataclass(frozen=True)
class Pod:
    """A pod of a job: which node or part it is, its phase, and the exit status of its container once that ended."""

    name: str
    index: int
    phase: str
    status: int | None

    @property
    def has_log(self) -> bool:
        """Whether its container has begun."""
        return self.phase not in ("Pending", "Unknown")


@dataclass(frozen=True)
class Seen:
    """A job as the cluster has it. ``why`` is what a failed or waiting one is told of."""

    state: State
    why: str = ""


class Cluster:
    """One namespace of a cluster."""

    def __init__(self, namespace: str, api: client.ApiClient) -> None:
        self.namespace = namespace
        self._custom = client.CustomObjectsApi(api)
        self._core = client.CoreV1Api(api)

    @classmethod
    def connect(cls, namespace: str) -> Cluster:
        """Through the pod's service account, outside a cluster through KUBECONFIG; :class:`JobError` without either."""
        settings = client.Configuration()
        try:
            if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
                config.load_incluster_config(client_configuration=settings)
            else:
                config.load_kube_config(client_configuration=settings)
        except ConfigException as error:
            said = " ".join(str(error).split())
            raise JobError(f"no cluster: {said}; set KUBECONFIG, or write the manifests with --out DIR") from None
        settings.retries = _TRIES
        return cls(namespace, client.ApiClient(settings))

    def create(self, manifest: dict[str, Any]) -> bool:
        """Create a job; False if there is one of this name."""
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        with _explained(f"{kind} {name}", self.namespace):
            try:
                group, version, plural = _APIS[kind]
                self._custom.create_namespaced_custom_object(
                    group, version, self.namespace, plural, manifest, _request_timeout=_SECONDS
                )
            except client.ApiException as error:
                if error.status == 409:
                    return False
                raise
        return True

    def see(self, kind: str, name: str) -> Seen | None:
        """The job, or None where there is none of this name."""
        with _explained(f"{kind} {name}", self.namespace):
            try:
                group, version, plural = _APIS[kind]
                found = self._custom.get_namespaced_custom_object(
                    group, version, self.namespace, plural, name, _request_timeout=_SECONDS
                )
            except client.ApiException as error:
                if error.status == 404:
                    return None
                raise
        return seen(found)

    def delete(self, kind: str, name: str) -> None:
        """Delete the job once its pods are gone, which get their grace period; returns at once, also if it is gone."""
        with _explained(f"{kind} {name}", self.namespace):
            try:
                group, version, plural = _APIS[kind]
                self._custom.delete_namespaced_custom_object(
                    group,
                    version,
                    self.namespace,
                    plural,
                    name,
                    propagation_policy="Foreground",
                    _request_timeout=_SECONDS,
                )
            except client.ApiException as error:
                if error.status != 404:
                    raise

    def pods(self, kind: str, name: str) -> list[Pod]:
        """The job's pods, also those that ended, oldest first."""
        with _explained(f"pods of {kind} {name}", self.namespace):
            found = self._core.list_namespaced_pod(
                self.namespace, label_selector=f"{_OWNER[kind]}={name}", _request_timeout=_SECONDS
            )
        items = sorted(found.items, key=lambda pod: str(pod.metadata.creation_timestamp))
        return [_pod(item) for item in items]

    def follow(self, pod: str) -> Iterator[str]:
        """The lines of a pod's log, from its beginning until the container ends."""
        with _explained(f"log of {pod}", self.namespace):
            stream = self._core.read_namespaced_pod_log(pod, self.namespace, follow=True, _preload_content=False)
            rest = b""
            for chunk in stream.stream(amt=None):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines)
            if rest:
                yield rest.decode(errors="replace")


def seen(found: dict[str, Any]) -> Seen:
    """What a TrainJob or Job says of itself in its conditions and counts."""
    if found["metadata"].get("deletionTimestamp"):
        return Seen("deleted")
    status = found.get("status") or {}
    true = {each["type"]: each for each in status.get("conditions") or [] if each["status"] == "True"}
    for kind, state in (("Complete", "done"), ("Failed", "failed"), ("Suspended", "queued")):
        if kind in true:
            told = (true[kind].get("reason"), true[kind].get("message"))
            return Seen(state, ": ".join(part for part in told if part))  # type: ignore[arg-type]
    counts = [status, *(status.get("jobsStatus") or [])]
    return Seen("running" if any(each.get("ready") for each in counts) else "created")


def _pod(item: Any) -> Pod:
    ended = [each.state.terminated for each in item.status.container_statuses or [] if each.state.terminated]
    index = (item.metadata.labels or {}).get(_INDEX, "0")
    return Pod(item.metadata.name, int(index), item.status.phase, ended[0].exit_code if ended else None)


@contextmanager
def _explained(what: str, namespace: str) -> Iterator[None]:
    """One line for what the API server answers: what a person can mend is a :class:`JobError`."""
    try:
        yield
    except client.ApiException as error:
        said = _message(error)
        if error.status == 403:
            raise JobError(f"{what}: refused in namespace {namespace} ({said}); see docs/runbook.md") from None
        if error.status in (400, 404, 422):
            remedy = "; `make k8s-preflight` shows what the cluster lacks" if error.status == 404 else ""
            raise JobError(f"{what}: {said}{remedy}") from None
        raise FailedError(f"{what}: HTTP status {error.status} of the API server: {said}") from None
    except HTTPError as error:
        raise FailedError(f"{what}: cannot connect to the API server: {' '.join(str(error).split())}") from None


def _message(error: client.ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)
