"""Kubernetes' API as far as jobs use it: keeps what is posted, serves states, pods and logs, and obeys deletions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

JOBS = "/apis/{group}/{version}/namespaces/{namespace}/{plural}"


@dataclass
class Fate:
    """What becomes of a job: the conditions it goes through, one each time that it is read, and its pods' end."""

    conditions: tuple[str, ...] = ("Suspended", "", "Complete")
    log: str = "step 1\nstep 2\n"
    exit_code: int = 0


@dataclass
class Living:
    """A job in the cluster."""

    manifest: dict[str, Any]
    fate: Fate
    reads: int = -1
    pods: list[dict[str, Any]] = field(default_factory=list)

    @property
    def condition(self) -> str:
        return self.fate.conditions[min(max(self.reads, 0), len(self.fate.conditions) - 1)]


class ApiServer:
    """``fate`` decides what becomes of a posted job; ``broken`` counts answers that are refused with 503 first."""

    def __init__(self, fate: Callable[[dict[str, Any]], Fate] | None = None) -> None:
        self.fate = fate or (lambda manifest: Fate())
        self.posted: list[dict[str, Any]] = []
        self.living: dict[str, Living] = {}
        self.deleted: list[str] = []
        self.most = 0
        self.broken = 0
        self.forbidden = False
        self.app = Starlette(
            routes=[
                Route(JOBS, self._post, methods=["POST"]),
                Route(JOBS + "/{name}", self._get, methods=["GET"]),
                Route(JOBS + "/{name}", self._delete, methods=["DELETE"]),
                Route("/api/v1/namespaces/{namespace}/pods", self._pods),
                Route("/api/v1/namespaces/{namespace}/pods/{name}/log", self._log),
            ]
        )

    async def _post(self, request: Request) -> Response:
        if (refused := self._refused()) is not None:
            return refused
        manifest = await request.json()
        name = manifest["metadata"]["name"]
        if name in self.living:
            return _status(409, f"{name} already exists")
        self.posted.append(manifest)
        self.living[name] = Living(manifest, self.fate(manifest))
        self.most = max(self.most, len(self.living))
        return JSONResponse(manifest, 201)

    async def _get(self, request: Request) -> Response:
        if (refused := self._refused()) is not None:
            return refused
        job = self.living.get(request.path_params["name"])
        if job is None:
            return _status(404, "not found")
        job.reads += 1
        conditions = [{"type": job.condition, "status": "True", "reason": "Said", "message": "so"}]
        status = {"conditions": conditions if job.condition else [], "ready": int(not job.condition)}
        return JSONResponse({**job.manifest, "status": status})

    async def _delete(self, request: Request) -> Response:
        name = request.path_params["name"]
        if self.living.pop(name, None) is None:
            return _status(404, "not found")
        self.deleted.append(name)
        return JSONResponse({"kind": "Status", "status": "Success"})

    async def _pods(self, request: Request) -> Response:
        name = request.query_params["labelSelector"].partition("=")[2]
        job = self.living[name]
        return JSONResponse({"kind": "PodList", "apiVersion": "v1", "items": job.pods or self._own_pods(name, job)})

    def _own_pods(self, name: str, job: Living) -> list[dict[str, Any]]:
        if job.condition == "Suspended":
            return []
        ended = job.condition in ("Complete", "Failed")
        return [made_pod(f"{name}-{index}", index, job.fate.exit_code if ended else None) for index in (0, 1)]

    async def _log(self, request: Request) -> Response:
        name = request.path_params["name"]
        job = next(job for job in self.living.values() if name.startswith(job.manifest["metadata"]["name"]))
        return PlainTextResponse(job.fate.log)

    def _refused(self) -> Response | None:
        if self.forbidden:
            return _status(403, "trainjobs is forbidden")
        if self.broken:
            self.broken -= 1
            return _status(503, "the server is shutting down")
        return None


def made_pod(name: str, index: int, exit_code: int | None) -> dict[str, Any]:
    """A pod that runs, or ended with ``exit_code``."""
    ended = {"terminated": {"exitCode": exit_code, "startedAt": None}} if exit_code is not None else {"running": {}}
    container = {"name": "node", "state": ended, "image": "i", "imageID": "i", "ready": True, "restartCount": 0}
    phase = "Running" if exit_code is None else "Failed" if exit_code else "Succeeded"
    labels = {"batch.kubernetes.io/job-completion-index": str(index)}
    metadata = {"name": name, "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": metadata, "status": {"phase": phase, "containerStatuses": [container]}}


def write_kubeconfig(path: Path, port: int) -> Path:
    """A KUBECONFIG for the server on ``port``."""
    named = {"clusters": [{"name": "made", "cluster": {"server": f"http://127.0.0.1:{port}"}}]}
    named |= {"users": [{"name": "made", "user": {}}]}
    named |= {"contexts": [{"name": "made", "context": {"cluster": "made", "user": "made"}}]}
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "made", **named}))
    return path


def _status(code: int, message: str) -> Response:
    return JSONResponse({"kind": "Status", "status": "Failure", "message": message, "code": code}, code)
