"""What the manifests of the service assume of its parameters, and what an overlay must not lose."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from eclipse.config import load_params
from eclipse.serve.errors import CODES
from eclipse.serve.metrics import Metrics
from k8s.check.rendered import dig, render

ROOT = Path(__file__).resolve().parents[3]
K8S = ROOT / "k8s"


@pytest.fixture(scope="module")
def serve():
    return load_params(ROOT / "params.yaml").serve


@pytest.fixture(scope="module")
def gpu():
    return render(K8S / "overlays/gpu")


@pytest.fixture(scope="module")
def local():
    return render(K8S / "overlays/local")


def _pod(rendered, name: str) -> dict:
    return rendered.find("Deployment", name)["spec"]["template"]["spec"]


@pytest.mark.parametrize("name", ["eclipse-serving", "eclipse-canary"])
def test_a_pod_has_time_to_finish_what_it_took_on(gpu, serve, name):
    pod = _pod(gpu, name)
    wait = dig(pod["containers"][0], "lifecycle", "preStop", "sleep", "seconds")
    assert wait + serve.drain_seconds < pod["terminationGracePeriodSeconds"]


def test_more_servers_are_asked_for_before_requests_are_refused(gpu, serve):
    (metric,) = gpu.find("HorizontalPodAutoscaler", "eclipse-serving")["spec"]["metrics"]
    assert f"# TYPE {metric['pods']['metric']['name']} gauge" in Metrics().render().decode()
    assert float(metric["pods"]["target"]["averageValue"]) <= serve.max_pending / 2


def test_the_autoscaler_alone_says_how_many_servers_there_are(gpu, local):
    assert "replicas" not in gpu.find("Deployment", "eclipse-serving")["spec"]
    assert local.find("HorizontalPodAutoscaler", "eclipse-serving") is None
    assert local.find("Deployment", "eclipse-serving")["spec"]["replicas"] == 1


def test_the_edge_waits_longer_than_the_service_and_keeps_metrics_inside(gpu, serve):
    (held,) = (each for each in gpu.of("ConfigMap") if "haproxy.cfg" in each["data"])
    configuration = held["data"]["haproxy.cfg"]
    for side in ("client", "server"):
        seconds = int(re.search(rf"timeout {side} (\d+)s", configuration)[1])
        assert seconds > serve.request_seconds + 60, "BentoML's own limit is a minute more (eclipse/serve/service.py)"
    assert "deny_status 404 if { path /metrics }" in configuration


def test_the_canary_looks_at_its_own_view_and_cannot_write_the_releases(gpu):
    pod = _pod(gpu, "eclipse-canary")
    (server,) = pod["containers"]
    assert {"name": "ECLIPSE_RELEASES", "value": "/view"} in server["env"]
    for container in (*pod["initContainers"], server):
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        assert mounts["releases"]["readOnly"] is True
    (held,) = (each for each in gpu.of("ConfigMap") if "candidate.py" in each["data"])
    assert held["data"]["candidate.py"] == (K8S / "components/canary/candidate.py").read_text()


def test_gpu_and_cpu_variants(gpu, local):
    for name in ("eclipse-serving", "eclipse-canary"):
        assert dig(_pod(gpu, name)["containers"][0], "resources", "limits", "nvidia.com/gpu") == "1"
    assert "nvidia.com/gpu" not in dig(_pod(local, "eclipse-serving")["containers"][0], "resources", "limits")


def test_tags_stand_in_the_overlays_only():
    for path in [*K8S.glob("base/**/*.yaml"), *K8S.glob("components/**/*.yaml")]:
        for image in re.findall(r"^\s*image: (\S+)$", path.read_text(), re.MULTILINE):
            assert ":" not in image, f"{path}: {image}"


def test_local_needs_no_custom_resources(local):
    assert all("." not in each["apiVersion"] or ".k8s.io/" in each["apiVersion"] for each in local.objects)


def test_alerts_name_codes_and_labels_that_the_service_gives():
    rules = (K8S / "components/monitoring/rules.yaml").read_text()
    assert set(re.findall(r'code="(\w+)"', rules)) <= set(CODES.values())
    ours = {"outcome", "variant", "role", "status", "route", "code", "le"}
    labels = {*ours, "track", "namespace", "condition", "cronjob"}
    document = yaml.safe_load(rules)
    for alert in (rule for group in document["spec"]["groups"] for rule in group["rules"]):
        assert set(re.findall(r"[{,]\s*(\w+)[=!]", alert["expr"])) <= labels, alert["alert"]
