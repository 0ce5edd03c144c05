"""Deployments, pools and automations: what the files say, on the server, as often as one likes."""

from __future__ import annotations

import asyncio
import json
import shlex
from uuid import uuid4

import pytest
import yaml
from made_checkout import commit, run
from prefect.events.schemas.automations import AutomationCore
from prefect_processes import python

from closure import ROOT
from flows import deploy

DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


@pytest.mark.parametrize("described", DEPLOYMENTS, ids=lambda one: f"{one['entrypoint']}/{one['name']}")
def test_every_deployment_is_a_flow_whose_parameters_fit(described):
    path, _, function = described["entrypoint"].partition(":")
    module = __import__(path.removesuffix(".py").replace("/", "."), fromlist=[function])
    flow = getattr(module, function)
    assert flow.name == function.replace("_", "-")
    flow.validate_parameters(
        described.get("parameters", {})
        | ({"concepts": ["a=b"], "out": "c"} if "concepts" in flow.parameters.properties else {})
    )


def test_every_flow_has_one_default():
    flows = {one["entrypoint"] for one in DEPLOYMENTS}
    tagged = [one["entrypoint"] for one in DEPLOYMENTS if "default" in one.get("tags", [])]
    assert sorted(tagged) == sorted(flows)


@pytest.mark.parametrize("path", sorted((ROOT / "flows/automations").glob("*.yaml")), ids=lambda path: path.stem)
def test_automations_are_valid(path):
    AutomationCore.model_validate(yaml.safe_load(path.read_text().replace("{{ notify }}", str(uuid4()))))


def test_no_server_is_told_in_one_line(monkeypatch, capsys):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setattr("sys.argv", ["deploy"])
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert deploy.main() == 2
    assert "no Prefect server answers" in capsys.readouterr().err


@pytest.mark.slow
def test_twice_is_as_good_as_once(server, deployed, client, monkeypatch):
    before = {one.name: one.id for one in client.read_automations()}
    limit = client.read_global_concurrency_limit_by_name("gpu")
    monkeypatch.setenv("ECLIPSE_NOTIFY_URL", "http://127.0.0.1:9/hook")
    monkeypatch.setitem(server.env, "ECLIPSE_NOTIFY_URL", "http://127.0.0.1:9/hook")
    done = python(server, deployed, "-m", "flows.deploy")
    assert done.returncode == 0, done.stdout + done.stderr
    after = client.read_automations()
    assert {one.name for one in after} == {*before, "tell of failures"} and len(after) == len(before) + 1
    assert client.read_global_concurrency_limit_by_name("gpu").id == limit.id
    assert len(client.read_deployments()) == len(DEPLOYMENTS)


@pytest.mark.slow
def test_an_unknown_flow_is_prefects_own_error(server, deployed):
    """Bare names that there are are used where a run is started by the command: test_train_prior.py."""
    done = python(server, deployed, "-m", "prefect", "deployment", "run", "no-such-flow")
    assert done.returncode == 1
    assert "Expected format: <FLOW_NAME>/<DEPLOYMENT_NAME>" in done.stdout + done.stderr


def test_a_job_keeps_its_checkout_and_its_branches(tmp_path, monkeypatch):
    origin, place = tmp_path / "an origin", tmp_path / "checkout"
    origin.mkdir()
    run(origin, "git", "init", "-q", "-b", "main")
    (origin / "a").write_text("1")
    commit(origin, "first")
    monkeypatch.setattr(deploy, "_CHECKOUT", str(place))
    monkeypatch.setattr(deploy, "_PULL", str(ROOT / "flows/pools/pull.sh"))
    shell, folder = deploy.pull_steps(str(origin))
    words = shlex.split(shell["prefect.deployments.steps.run_shell_script"]["script"])
    run(tmp_path, *words)
    run(place, "git", "branch", "runs/kept")
    (origin / "a").write_text("2")
    run(place.parent, *words)
    assert (place / "a").read_text() == "1", "nothing new was committed"
    second = commit(origin, "second")
    run(tmp_path, *words)
    assert run(place, "git", "rev-parse", "HEAD").strip() == second
    assert "runs/kept" in run(place, "git", "branch")
    assert folder == {"prefect.deployments.steps.set_working_directory": {"directory": str(place)}}


def test_the_job_of_the_kubernetes_pool(server, client):
    worker = pytest.importorskip("prefect_kubernetes.worker")
    from prefect.client.schemas.objects import Flow, FlowRun

    async def rendered(**values):
        from prefect.client.orchestration import get_client

        template = json.loads((ROOT / "flows/pools/kubernetes.json").read_text())
        async with get_client() as asking:
            made = await worker.KubernetesWorkerJobConfiguration.from_template_and_values(
                base_job_template=template, values=values, client=asking
            )
        made.prepare_for_flow_run(
            FlowRun(id=uuid4(), flow_id=uuid4(), name="x"), flow=Flow(id=uuid4(), name="train-prior")
        )
        return made.job_manifest["spec"]

    job = asyncio.run(rendered(gpus=2, cpu_limit="8"))
    pod, (container,) = job["template"]["spec"], job["template"]["spec"]["containers"]
    assert (job["backoffLimit"], job["ttlSecondsAfterFinished"], job["parallelism"]) == (2, 86400, 1)
    assert container["resources"]["limits"] == {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": 2}
    assert pod["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "eclipse-results"
    assert pod["serviceAccountName"] == "eclipse-flows"
    assert container["envFrom"] == [
        {"configMapRef": {"name": "eclipse-environment", "optional": True}},
        {"secretRef": {"name": "eclipse-s3", "optional": True}},
    ]
    assert {"name": "ECLIPSE_TRAIN_JOBS", "value": "1"} in container["env"], "trainings would run in the flow's pod"
    assert "{{" not in json.dumps(job), "a placeholder was not filled in"
    without = asyncio.run(rendered(tolerations=[]))
    assert without["template"]["spec"]["tolerations"] == []
