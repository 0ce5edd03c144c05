"""What is shipped: both overlays render, and break no rule."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from k8s.check.checks import POOL, of_pool, problems
from k8s.check.pods import pods, pods_of, pool
from k8s.check.rendered import OVERLAYS, ROOT, ManifestError, read, render, render_component


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_breaks_no_rule(overlays, name):
    assert [str(each) for each in problems(overlays[name])] == []


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_run_of_prefects_pool_breaks_no_rule(overlays, name):
    assert [str(each) for each in of_pool(POOL, overlays[name])] == []


def test_a_run_of_prefects_pool_that_the_quota_would_refuse_is_told(overlays):
    rendered = copy.deepcopy(overlays["k8s/overlays/local"])
    (quota,) = rendered.of("ResourceQuota")
    quota["spec"]["hard"]["requests.memory"] = "16Gi"
    (found,) = of_pool(POOL, rendered)
    assert found.rule == "quota" and "beside the servers" in found.text


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_serves(overlays, name):
    owners = {(pod.kind, pod.owner["metadata"]["name"]) for pod in pods(overlays[name])}
    wanted = {("Deployment", "eclipse-serving"), ("Deployment", "eclipse-mlflow"), ("Deployment", "eclipse-prefect")}
    assert wanted <= owners


def test_the_gpu_overlay_has_queues_and_runtimes(overlays):
    (gpu,) = [rendered for name, rendered in overlays.items() if name.endswith("gpu")]
    assert {"eclipse-torchrun", "eclipse-torchrun-gpu"} <= {
        each["metadata"]["name"] for each in gpu.of("ClusterTrainingRuntime")
    }
    assert {each["metadata"]["name"] for each in gpu.of("LocalQueue")} >= {"training", "extraction", "serving"}


def test_the_pool_is_read_as_its_worker_would_fill_it():
    (pod,) = pods_of(pool(POOL) | {"metadata": {"name": "run"}})
    assert "{{" not in str(pod.spec)
    assert pod.spec["serviceAccountName"] == "eclipse-flows"
    assert pod.labels["prefect.io/flow-run-id"]


def _kustomization(folder):
    return yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))


def test_every_component_is_in_an_overlay_or_can_be_added_to_the_base():
    used = {Path(each).name for name in OVERLAYS for each in _kustomization(ROOT / name).get("components", [])}
    folders = [path.parent for path in (ROOT / "k8s/components").glob("*/kustomization.yaml")]
    assert used <= {folder.name for folder in folders}
    for folder in folders:
        if folder.name not in used:
            assert render_component(folder, ROOT / "k8s/base").objects, folder


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ({}, "no kustomization.yaml"),
        ({"kustomization.yaml": "resources: [gone.yaml]\n"}, "gone.yaml"),
        ({"kustomization.yaml": "resources: [a.yaml]\n", "a.yaml": "kind: [\n"}, "kustomize"),
    ],
)
def test_what_cannot_be_rendered_is_named(tmp_path, files, word):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "k8s.check", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and word in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("kind: A\nmetadata: {name: x}\n", "apiVersion"),
        (
            "{apiVersion: v1, kind: A, metadata: {name: x}}\n---\n{apiVersion: v1, kind: A, metadata: {name: x}}\n",
            "twice",
        ),
        ("{apiVersion: v1, kind: A, metadata: {name: x, name: y}}\n", "'name' twice"),
    ],
)
def test_a_stream_of_objects_is_read_strictly(text, word):
    with pytest.raises(ManifestError, match=word):
        read(text, "a stream")


def test_without_kubectl_the_error_says_so(monkeypatch):
    monkeypatch.setitem(os.environ, "PATH", "")
    with pytest.raises(ManifestError, match="kubectl: not found"):
        render(ROOT / OVERLAYS[0])
