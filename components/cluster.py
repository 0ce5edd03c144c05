"""Where the tasks of the pipeline run on a cluster: image, resources, GPU, volumes, environment, queue, rights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kfp import kubernetes

from components.runs import SHARED
from eclipse.config import Params
from eclipse.errors import ConfigError

USER = 10001
RESULTS, RELEASES = "/results", "/releases"
GPU = "nvidia.com/gpu"
RETRIES = 3

_TRAINING = ("train", "train-subjects")
_EXTRACTION = ("embed-part", "embed-part-subjects")
_DECODING = ("evaluate", "reference", "evaluate-subjects", "reference-subjects", "interpolate")
_LIGHT = {"cpu": "1", "memory": "2Gi"}
_PARTS = {"training": _TRAINING, "extraction": _EXTRACTION}


@dataclass(frozen=True)
class Placement:
    """How ``params.cluster`` has each task run; see docs/pipeline.md for what has to be in the namespace."""

    params: Params

    def __post_init__(self) -> None:
        if self.params.cluster.nodes > 1:
            raise ConfigError(
                f"cluster.nodes: a pipeline's task is one pod (got {self.params.cluster.nodes}); set 1, or train on "
                "several nodes with python -m components.jobs"
            )

    def put(self, name: str, task: Any) -> Any:
        """Settle everything about the pod of the task called ``name``; returns the task."""
        task.set_container_image(self.params.cluster.image)
        self._resources(name, task)
        self._storage(name, task)
        self._identity(name, task)
        return task

    def _resources(self, name: str, task: Any) -> None:
        cluster = self.params.cluster
        heavy = name in (*_TRAINING, *_EXTRACTION, *_DECODING) or self._trains_frozen(name)
        cpu, memory = (cluster.cpu, cluster.memory) if heavy else (_LIGHT["cpu"], _LIGHT["memory"])
        task.set_cpu_request(cpu).set_cpu_limit(cpu).set_memory_request(memory).set_memory_limit(memory)
        if heavy and cluster.gpus:
            task.set_accelerator_type(GPU).set_accelerator_limit(cluster.processes if name in _TRAINING else 1)
            kubernetes.add_toleration(task, key=GPU, operator="Exists", effect="NoSchedule")
        if heavy:
            task.set_retry(RETRIES, backoff_duration="30s", backoff_factor=2, backoff_max_duration="600s")

    def _trains_frozen(self, name: str) -> bool:
        return name == "frozen" and self.params.frozen.source == "train"

    def _storage(self, name: str, task: Any) -> None:
        kubernetes.mount_pvc(task, pvc_name="eclipse-results", mount_path=RESULTS)
        task.set_env_variable(SHARED, f"{RESULTS}/pipeline")
        task.set_env_variable("HOME", "/tmp")
        task.set_env_variable("HF_HOME", f"{RESULTS}/models")  # published weights, fetched once for all tasks
        # PyTorch's workers hand over batches in shared memory, of which a pod has 64 MB otherwise.
        kubernetes.empty_dir_mount(task, volume_name="shared-memory", mount_path="/dev/shm", medium="Memory")
        kubernetes.empty_dir_mount(task, volume_name="tmp", mount_path="/tmp")
        if name == "register":
            kubernetes.mount_pvc(task, pvc_name="eclipse-releases", mount_path=RELEASES)
            task.set_env_variable("ECLIPSE_RELEASES", RELEASES)
            address = {"MLFLOW_TRACKING_URI": "MLFLOW_TRACKING_URI"}
            kubernetes.use_config_map_as_env(task, "eclipse-environment", address)
            keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
            kubernetes.use_secret_as_env(task, "eclipse-s3", {key: key for key in keys})

    def _identity(self, name: str, task: Any) -> None:
        kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
        kubernetes.set_image_pull_policy(task, "IfNotPresent")
        part = next((part for part, names in _PARTS.items() if name in names), "orchestration")
        labels = {"name": "eclipse-pipeline", "component": part, "part-of": "eclipse"}
        for key, value in labels.items():
            kubernetes.add_pod_label(task, label_key=f"app.kubernetes.io/{key}", label_value=value)
        queue = {"training": self.params.cluster.queue, "extraction": self.params.cluster.extraction_queue}.get(part)
        if queue is not None:
            kubernetes.add_pod_label(task, label_key="kueue.x-k8s.io/queue-name", label_value=queue)
