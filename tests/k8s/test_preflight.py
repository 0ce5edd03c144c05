"""The preflight, through the real kubectl, against a server that answers like a cluster's API."""

from __future__ import annotations

import copy
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from k8s.check.preflight import preflight
from k8s.check.rendered import ManifestError, Rendered

pytestmark = pytest.mark.slow
SECRETS = "/api/v1/namespaces/eclipse/secrets"
NODE = {
    "metadata": {"name": "node", "labels": {"nvidia.com/gpu.present": "true"}},
    "spec": {},
    "status": {
        "conditions": [{"type": "Ready", "status": "True"}],
        "allocatable": {"cpu": "16", "memory": "64Gi", "nvidia.com/gpu": "8"},
        "images": [{"names": ["docker.io/library/eclipse-server:0.1.0", "docker.io/library/eclipse-trainer:0.1.0"]}],
    },
}


def _whole(objects) -> dict[str, object]:
    """The answers of a cluster that lacks nothing."""
    answers: dict[str, object] = {
        "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.1"},
        "/api/v1/nodes": {"items": [copy.deepcopy(NODE)]},
        "/apis/custom.metrics.k8s.io": {},
        "/apis/storage.k8s.io/v1/storageclasses": {
            "items": [
                {"metadata": {"name": "disk", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}}
            ]
        },
        "/api/v1/namespaces/eclipse": {"metadata": {"name": "eclipse"}},
        "/api/v1/namespaces/eclipse/resourcequotas": {"items": []},
        f"{SECRETS}/eclipse-api": {"data": {"key": "eA=="}},
    }
    for thing in objects:
        version = thing["apiVersion"]
        path = f"/apis/{version}" if "/" in version else f"/api/{version}"
        answers.setdefault(path, {"resources": []})["resources"].append({"kind": thing["kind"]})  # type: ignore[index]
    return answers


@pytest.fixture
def cluster(objects, tmp_path, monkeypatch):
    """The answers, to be changed, of a server that kubectl's configuration names."""
    answers = _whole(objects)

    class Api(BaseHTTPRequestHandler):
        def do_GET(self):
            found = answers.get(self.path)
            body = json.dumps(found if found is not None else {"kind": "Status", "reason": "NotFound", "code": 404})
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
        "current-context": "c",
    }
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.setattr("k8s.check.cluster.Cluster.dry_run", lambda self, overlay: (True, ["Warning: from the server"]))
    yield answers
    server.shutdown()
    server.server_close()


def _told(objects, tmp_path) -> tuple[str, list[bool]]:
    found = preflight(Rendered(objects, "small"), tmp_path)
    return "\n".join(map(str, found)), [each.fatal for each in found]


def test_a_whole_cluster_is_ready_and_the_server_has_the_last_word(objects, cluster, tmp_path):
    text, fatal = _told(objects, tmp_path)
    assert text == "missing: kubectl apply --dry-run=server: Warning: from the server"
    assert fatal == [True]


def _without(path):
    return lambda answers: answers.update({path: None})


def _node(**changes):
    def change(answers):
        node = copy.deepcopy(NODE)
        for key, value in changes.items():
            node[key] = {**node[key], **value}
        answers["/api/v1/nodes"] = {"items": [node]}

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without("/apis/kueue.x-k8s.io/v1beta2"), ["kueue.x-k8s.io/v1beta2 ClusterQueue", "install Kueue"]),
        (_without("/apis/trainer.kubeflow.org/v1alpha1"), ["ClusterTrainingRuntime", "install Kubeflow Trainer"]),
        (_without("/apis/monitoring.coreos.com/v1"), ["ServiceMonitor", "Prometheus operator"]),
        (_without("/apis/storage.k8s.io/v1/storageclasses"), ["default StorageClass", "eclipse-releases"]),
        (_without("/api/v1/namespaces/eclipse"), ["namespace eclipse", "not there yet"]),
        (_without(f"{SECRETS}/eclipse-api"), ["Secret eclipse-api", "has no key"]),
        (_without("/apis/custom.metrics.k8s.io"), ["note:", "Prometheus adapter"]),
        (_node(status={"conditions": []}), ["nodes", "none is ready"]),
        (_node(status={"allocatable": {"cpu": "16", "memory": "64Gi"}}), ["wants 1 GPUs", "device plugin"]),
        (
            _node(status={"allocatable": {"cpu": "16", "memory": "256Mi", "nvidia.com/gpu": "1"}}),
            ["no node is so large"],
        ),
        (_node(spec={"taints": [{"key": "a", "effect": "NoSchedule"}]}), ["tolerates"]),
        (_node(status={"images": [{"names": ["busybox:1"]}]}), ["image eclipse-server:0.1.0", "kind load"]),
        (lambda answers: answers["/version"].update(minor="29"), ["1.31 or newer"]),
        (
            lambda answers: answers.update(
                {
                    "/api/v1/namespaces/eclipse/resourcequotas": {
                        "items": [{"metadata": {"name": "team"}, "spec": {"hard": {"requests.cpu": "1"}}}]
                    }
                }
            ),
            ["ResourceQuota team", "requests.cpu: 2.6 needed, 1 allowed"],
        ),
    ],
)
def test_what_is_missing_is_named(objects, cluster, tmp_path, change, words):
    change(cluster)
    text, _ = _told(objects, tmp_path)
    assert all(word in text for word in words), text


def test_a_cluster_that_does_not_answer_is_one_error(objects, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(ManifestError, match="kubectl get --raw /version"):
        preflight(Rendered(objects, "small"), tmp_path)
