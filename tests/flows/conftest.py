"""One Prefect server (SQLite, loopback), one small checkout and one worker at a time, for the whole room."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from made_checkout import ROOT, make_checkout
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, LogFilter, LogFilterFlowRunId
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_processes import Server, answers, end, kill, python, wait_for


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("prefect")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "ECLIPSE_", "MLFLOW_"))
    }
    env |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PREFECT_HOME": str(home),
        "KUBECONFIG": str(home / "no-cluster"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_NUM_THREADS": "1",
        "BENTOML_HOME": str(home / "bentoml"),
        "PYTHONPATH": str(_install_plugin(home / "site")),
    }
    with (home / "server.log").open("w") as log:
        words = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(words, cwd=home, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(lambda: answers(env["PREFECT_API_URL"]), 120, "Prefect server")
        yield Server(env["PREFECT_API_URL"], env, process)
    finally:
        end(process)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    return make_checkout(tmp_path_factory.mktemp("flows") / "checkout")


@pytest.fixture(scope="session")
def deployed(server, checkout):
    """The checkout with its deployments on the server, as `make deployments` makes them."""
    done = python(server, checkout, "-m", "flows.deploy")
    assert done.returncode == 0, done.stdout + done.stderr
    return checkout


class Worker:
    """The one worker of the room, which tests may kill."""

    def __init__(self, env: dict[str, str], checkout: Path) -> None:
        self.env = env | {"PREFECT_WORKER_QUERY_SECONDS": "1"}
        self.checkout = checkout
        self.process: subprocess.Popen | None = None

    def run(self) -> None:
        """Start it, unless it runs."""
        if self.process is None or self.process.poll() is not None:
            words = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "local"]
            with (self.checkout.parent / "worker.log").open("a") as log:
                self.process = subprocess.Popen(
                    words, cwd=self.checkout, env=self.env, stdout=log, stderr=log, start_new_session=True
                )

    def kill(self) -> None:
        kill(self.process)


@pytest.fixture(scope="session")
def the_worker(server, deployed):
    made = Worker(server.env, deployed)
    yield made
    if made.process:
        end(made.process)


@pytest.fixture
def worker(the_worker):
    """A worker that runs."""
    the_worker.run()
    return the_worker


@pytest.fixture
def client(server, monkeypatch):
    """A client of the server, in this process."""
    with temporary_settings({PREFECT_API_URL: server.url}), get_client(sync_client=True) as made:
        yield made


@dataclass(frozen=True)
class Runs:
    """Flow runs of the deployments, started and watched over Prefect's API, as its UI does."""

    server: Server
    checkout: Path
    client: object

    def start(self, name: str, **parameters) -> str:
        """Schedule a run of a deployment; its id."""
        deployment = self.client.read_deployment_by_name(name)
        return str(self.client.create_flow_run_from_deployment(deployment.id, parameters=parameters).id)

    def start_by_command(self, name: str, **parameters) -> str:
        """The same by `prefect deployment run`, some seconds slower."""
        given = [word for key, value in parameters.items() for word in ("-p", f"{key}={json.dumps(value)}")]
        done = python(self.server, self.checkout, "-m", "prefect", "deployment", "run", name, *given)
        assert done.returncode == 0, done.stdout + done.stderr
        return next(line.split()[-1] for line in done.stdout.splitlines() if "UUID" in line)

    def state(self, run_id: str):
        return self.client.read_flow_run(run_id).state

    def ended(self, run_id: str, seconds: float = 500):
        """Its final state."""
        return wait_for(lambda: (state := self.state(run_id)).is_final() and state, seconds, f"end of {run_id}")

    def folder(self, run_id: str) -> Path:
        """The workspace that a run told of."""
        tags = self.client.read_flow_run(run_id).tags
        (name,) = (tag.partition(":")[2] for tag in tags if tag.startswith("workspace:"))
        return self.checkout / "workspaces" / name

    def log(self, run_id: str) -> str:
        wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id]))
        lines: list[str] = []
        while True:
            page = self.client.read_logs(log_filter=wanted, limit=200, offset=len(lines))
            lines += [one.message for one in page]
            if len(page) < 200:
                return "\n".join(lines)

    def artifacts(self, run_id: str) -> dict[str, str]:
        """Key → data of what a run shows."""
        wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
        return {one.key: one.data for one in self.client.read_artifacts(artifact_filter=wanted)}


@pytest.fixture
def runs(server, deployed, worker, client):
    return Runs(server, deployed, client)


@pytest.fixture(scope="session")
def candidate(server, deployed, the_worker):
    """The run that made the candidate: train-prior/mini on the tiny profile, from data to registry."""
    the_worker.run()
    with temporary_settings({PREFECT_API_URL: server.url}), get_client(sync_client=True) as client:
        runs = Runs(server, deployed, client)
        run_id = runs.start("train-prior/mini", profile="tiny")
        assert runs.ended(run_id, 560).is_completed(), runs.log(run_id)
    return run_id


def _install_plugin(site: Path) -> Path:
    """The package's metadata with the entry point of pyproject.toml, as installing the checkout would write it."""
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"].get(
        "entry-points", {"prefect.plugins": {"eclipse-default-deployment": "flows.plugin"}}
    )
    meta = site / "eclipse_priors-0.1.0.dist-info"
    meta.mkdir(parents=True)
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: eclipse-priors\nVersion: 0.1.0\n")
    lines = [f"{name} = {target}" for name, target in points["prefect.plugins"].items()]
    (meta / "entry_points.txt").write_text("\n".join(["[prefect.plugins]", *lines, ""]))
    return site
