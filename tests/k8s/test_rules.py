"""Each rule fires for the mistake that it is for, and only then."""

from __future__ import annotations

import pytest

from k8s.check.checks import problems
from k8s.check.rendered import Rendered

SERVING = "Deployment/eclipse-serving"
POD = "spec.template.spec"
FIRST = f"{POD}.containers.0"
RUNTIME = "ClusterTrainingRuntime"
NODE = "spec.template.spec.replicatedJobs.0.template"
RANK = f"{NODE}.spec.template.spec"


def test_the_small_platform_breaks_no_rule(small):
    assert [str(each) for each in problems(Rendered(small, "small"))] == []


MISTAKES = {
    "pod-security": [
        (SERVING, f"{POD}.hostNetwork", True, "hostNetwork"),
        (SERVING, f"{POD}.volumes.1", {"name": "tmp", "hostPath": {"path": "/tmp"}}, "hostPath"),
        (SERVING, f"{POD}.securityContext.seccompProfile", None, "seccompProfile"),
        (SERVING, f"{POD}.securityContext.runAsNonRoot", None, "runAsNonRoot"),
        (SERVING, f"{POD}.securityContext.runAsUser", 0, "runAsUser"),
        (SERVING, f"{FIRST}.securityContext.privileged", True, "privileged"),
        (SERVING, f"{FIRST}.securityContext.allowPrivilegeEscalation", None, "allowPrivilegeEscalation"),
        (SERVING, f"{FIRST}.securityContext.capabilities.drop", ["NET_RAW"], "ALL"),
        (SERVING, f"{FIRST}.securityContext.capabilities.add", ["SYS_ADMIN"], "SYS_ADMIN"),
        (SERVING, f"{FIRST}.ports.0.hostPort", 80, "hostPort"),
        (SERVING, f"{FIRST}.livenessProbe.httpGet.host", "10.0.0.1", "host"),
        (RUNTIME, f"{RANK}.containers.0.securityContext.allowPrivilegeEscalation", True, "allowPrivilegeEscalation"),
        (RUNTIME, f"{RANK}.securityContext.runAsNonRoot", None, "runAsNonRoot"),
    ],
    "read-only": [(SERVING, f"{FIRST}.securityContext.readOnlyRootFilesystem", False, "readOnlyRootFilesystem")],
    "image": [
        (SERVING, f"{FIRST}.image", "eclipse-server", "tag"),
        (SERVING, f"{FIRST}.image", "eclipse-server:latest", "tag"),
        (SERVING, f"{FIRST}.image", "registry.example/eclipse-server:0.0.9", "0.1.0"),
    ],
    "resources": [
        (SERVING, f"{FIRST}.resources.limits.memory", None, "limits.memory"),
        (SERVING, f"{FIRST}.resources.requests.cpu", "3", "than its limit"),
        (RUNTIME, f"{RANK}.containers.0.resources.requests.nvidia|com/gpu", 2, "same in requests"),
    ],
    "user": [(SERVING, f"{POD}.securityContext.runAsUser", 1000, "10001")],
    "probes": [
        (SERVING, f"{FIRST}.readinessProbe", None, "readinessProbe"),
        (SERVING, f"{FIRST}.startupProbe", None, "startupProbe"),
    ],
    "account": [
        (SERVING, f"{POD}.serviceAccountName", None, "serviceAccountName"),
        (SERVING, f"{POD}.automountServiceAccountToken", None, "automountServiceAccountToken"),
    ],
    "labels": [
        (SERVING, "metadata.labels.app|kubernetes|io/component", "web", "component"),
        ("ClusterQueue", "metadata.labels", {}, "app.kubernetes.io/name"),
    ],
    "namespace": [
        ("Service/eclipse-serving", "metadata.namespace", None, "None"),
        ("ClusterQueue", "metadata.namespace", "eclipse", "no namespace"),
        ("Namespace", "metadata.labels.pod-security|kubernetes|io/enforce", "baseline", "restricted"),
    ],
    "rollout": [
        (SERVING, "spec.strategy.rollingUpdate.maxUnavailable", 1, "maxUnavailable"),
        ("PodDisruptionBudget", "spec.selector.matchLabels", {"app": "x"}, "PodDisruptionBudget"),
    ],
    "reference": [
        (SERVING, f"{FIRST}.envFrom.0.configMapRef.name", "missing", "ConfigMap missing"),
        (SERVING, f"{FIRST}.env.1.valueFrom.secretKeyRef.name", "mine", "Secret mine"),
        (SERVING, f"{FIRST}.env.1.valueFrom.secretKeyRef.key", "token", "no key token"),
        (SERVING, f"{POD}.volumes.0.persistentVolumeClaim.claimName", "gone", "PersistentVolumeClaim gone"),
        (SERVING, f"{POD}.serviceAccountName", "nobody", "ServiceAccount nobody"),
        (SERVING, f"{POD}.priorityClassName", "urgent", "PriorityClass urgent"),
        (SERVING, f"{FIRST}.volumeMounts.0.name", "elsewhere", "no volume elsewhere"),
        (SERVING, f"{FIRST}.livenessProbe.httpGet.port", "web", "no port named web"),
        ("Service/eclipse-serving", "spec.ports.0.targetPort", 3001, "3001"),
        ("Service/eclipse-serving", "spec.selector", {"app": "x"}, "chooses no pod"),
        ("HorizontalPodAutoscaler", "spec.scaleTargetRef.name", "gone", "Deployment gone"),
        ("ServiceMonitor", "spec.endpoints.0.port", "metrics", "port metrics"),
        ("StatefulSet", "spec.serviceName", "gone", "Service gone"),
    ],
    "queue": [
        ("LocalQueue", "spec.clusterQueue", "gone", "ClusterQueue gone"),
        ("ClusterQueue", "spec.namespaceSelector", None, "no namespace may use it"),
        ("ClusterQueue", "spec.resourceGroups.0.coveredResources", ["nvidia.com/gpu", "cpu"], "order"),
        ("ClusterQueue", "spec.resourceGroups.0.flavors.0.name", "gone", "ResourceFlavor gone"),
        ("ClusterQueue", "spec.resourceGroups.0.flavors.0.resources.0.borrowingLimit", 1, "cohortName"),
        (SERVING, "metadata.labels.kueue|x-k8s|io/queue-name", "gone", "LocalQueue gone"),
        (RUNTIME, f"{NODE}.spec.podFailurePolicy.rules.0.action", "Count", "DisruptionTarget"),
        (RUNTIME, "spec.template.spec.replicatedJobs.0.name", "worker", "named node"),
    ],
    "quota": [
        ("HorizontalPodAutoscaler", "spec.maxReplicas", 9, "requests.cpu"),
        ("ResourceQuota", "spec.hard", {"requests.storage": "5Gi"}, "requests.storage"),
        ("ResourceQuota", "spec.hard", {"limits.ephemeral-storage": "5Gi"}, "limits.ephemeral-storage"),
        (RUNTIME, f"{RANK}.containers.0.resources.limits.memory", "99Gi", "beside the servers"),
    ],
    "warning": [
        (SERVING, f"{FIRST}.env.0.name", "ECLIPSE_API_KEY", "twice"),
        (SERVING, f"{FIRST}.volumeMounts.0.mountPath", "/tmp", "twice"),
        (SERVING, f"{FIRST}.resources.requests.memory", "400m", "fraction of a byte"),
        (SERVING, "metadata.name", "eclipse.serving", "DNS label"),
        (SERVING, "metadata.annotations", {"kubernetes.io/ingress.class": "x"}, "deprecated"),
        (SERVING, "spec.selector.matchLabels", {"app": "x"}, "its own template"),
    ],
    "schema": [
        (SERVING, f"{FIRST}.comand", ["x"], "comand"),
        (SERVING, "spec.replicas", "two", "replicas"),
        (SERVING, f"{FIRST}.env.0.value", 1, "is not"),
        ("ServiceMonitor", "spec.endpoints.0.intervall", "15s", "intervall"),
        ("ClusterQueue", "spec.cohort", "all", "cohort"),
        ("ClusterQueue", "apiVersion", "kueue.x-k8s.io/v1beta1", "v1beta1"),
        (RUNTIME, "spec.mlPolicy.torch.numProcPerNode", 2, "numProcPerNode"),
        (RUNTIME, f"{RANK}.containers.0.imagee", "x", "imagee"),
        (RUNTIME, f"{NODE}.spec.backoffLimit", "three", "backoffLimit"),
    ],
    "network": [
        ("NetworkPolicy/default-deny", "spec.policyTypes", ["Ingress"], "Egress by default"),
        ("NetworkPolicy/serving", "spec.egress.0.ports.0.port", 5001, "eclipse-mlflow:5000"),
        ("NetworkPolicy/serving", "spec.ingress.0.from.0.namespaceSelector.matchLabels", {"a": "b"}, "Prometheus"),
        ("NetworkPolicy/mlflow", "spec.ingress.0.from.0.podSelector.matchLabels", {"a": "b"}, "eclipse-mlflow:5000"),
        ("NetworkPolicy/names", "spec.egress.0.ports", [{"port": 53, "protocol": "UDP"}], "(TCP)"),
        ("NetworkPolicy/training", "spec.ingress.0.ports", [{"port": 29400}], "other ranks"),
        ("NetworkPolicy/serving", "spec.egress", [{}], "opens everything"),
        (SERVING, f"{POD}.automountServiceAccountToken", True, "API server"),
        ("ConfigMap", "data.MLFLOW_TRACKING_URI", "http://eclipse-mlflow:5001", "no such port"),
    ],
    "command": [
        (SERVING, f"{FIRST}.command", ["bentoml", "serve", "--prot=3000"], "--prot"),
        (SERVING, f"{FIRST}.command", ["bentooml", "serve"], "bentooml"),
        (SERVING, f"{FIRST}.env.0.value", "postgresql+nodriver://eclipse-mlflow:5000", "nodriver"),
        (RUNTIME, f"{RANK}.containers.0.command", ["torchrun", "-m", "eclipse", "trian"], "trian"),
        (RUNTIME, f"{RANK}.containers.0.command", ["python", "-m", "eclipse", "select", "--out", "o"], "--evaluations"),
    ],
    "variable": [
        (SERVING, f"{FIRST}.env.0.name", "ECLIPSE_RELEASE", "ECLIPSE_RELEASE"),
        ("ConfigMap", "data.MLFLOW_TRACKING_URL", "x", "MLFLOW_TRACKING_URL"),
        ("ConfigMap", "data.PREFECT_API_ADDRESS", "x", "PREFECT_API_ADDRESS"),
        ("PrometheusRule", "spec.groups.0.rules.0.expr", "eclipse_queue_images > 1", "eclipse_queue_images"),
        ("HorizontalPodAutoscaler", "spec.metrics.0.pods.metric.name", "eclipse_depth", "eclipse_depth"),
    ],
}


@pytest.mark.parametrize(
    ("rule", "which", "path", "value", "word"),
    [(rule, *mistake) for rule, mistakes in MISTAKES.items() for mistake in mistakes],
)
def test_a_mistake_is_told_by_its_rule(changed, rule, which, path, value, word):
    found = changed(which, path, value)
    assert [each for each in found if each.rule == rule and word in f"{each.where} {each.text}"], [*map(str, found)]


@pytest.mark.parametrize(
    ("thing", "rule"),
    [
        ({"apiVersion": "v1", "kind": "Secret", "stringData": {"key": "x"}}, "secrets"),
        (
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "Role",
                "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}],
            },
            "rbac",
        ),
        (
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "Role",
                "rules": [{"apiGroups": ["*"], "resources": ["pods"], "verbs": ["get"]}],
            },
            "rbac",
        ),
        ({"apiVersion": "kubeflow.org/v1beta1", "kind": "Experiment", "spec": {}}, "groups"),
    ],
)
def test_an_object_that_should_not_be_there_is_told(small, thing, rule):
    thing["metadata"] = {"name": "extra", "namespace": "eclipse", "labels": small[5]["metadata"]["labels"]}
    found = problems(Rendered([*small, thing], "small"))
    assert rule in {each.rule for each in found}


def test_a_cron_job_and_a_job_are_looked_into(small):
    template = small[5]["spec"]["template"]
    template["spec"] = {**template["spec"], "restartPolicy": "Never", "securityContext": {}}
    metadata = {**small[5]["metadata"], "name": "nightly"}
    cron = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": metadata,
        "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": template}}},
    }
    found = problems(Rendered([*small, cron], "small"))
    assert any(each.rule == "pod-security" and "CronJob/nightly" in each.where for each in found)
