"""Environment variables and metric names in manifests are those that the code reads and exports."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from k8s.check.commands import is_own
from k8s.check.pods import Pod, pods
from k8s.check.rendered import ROOT, Object, Problem, Rendered, dig, label

RULE = "variable"
OURS = ("eclipse", "flows", "components", "k8s/check")
PLAIN = re.compile(
    r"^(HOME|PATH|TMPDIR|USER|LOGNAME|TZ|LANG|LC_\w+|DO_NOT_TRACK|TQDM_[A-Z]+|GIT_\w+|XDG_\w+|PYTHON\w+|OMP_NUM_THREADS"
    r"|MKL_NUM_THREADS|NO_PROXY|HTTPS?_PROXY|SSL_CERT_FILE|MPLCONFIGDIR|NVIDIA_\w+|CUDA_\w+|POD_\w+|NODE_NAME|HF_\w+|PG[A-Z]+"
    r"|NCCL_\w+|GLOO_\w+|TORCH\w*|PET_\w+|MASTER_ADDR|MASTER_PORT|NODE_RANK|JOB_COMPLETION_INDEX|AWS_\w+)$"
)
"""Names of the system and of libraries that document them outside their Python source."""
PACKAGES = {"MLFLOW": "mlflow", "BENTOML": "bentoml", "DVC": "dvc", "PROMETHEUS": "prometheus_client"}
_METRIC = re.compile(r"\beclipse_[a-z_]+\b")


def variables(rendered: Rendered) -> Iterator[Problem]:
    """Variables that nothing reads, metrics that nothing exports."""
    for pod in pods(rendered):
        yield from of_pod(pod, rendered)
    yield from _metrics(rendered)


def of_pod(pod: Pod, rendered: Rendered) -> Iterator[Problem]:
    """Variables of one pod's own containers that nothing reads."""
    for where, container in pod.containers():
        if not is_own(container):
            continue
        names = [each.get("name") for each in dig(container, "env", default=[])]
        for source in dig(container, "envFrom", default=[]):
            held = rendered.find("ConfigMap", str(dig(source, "configMapRef", "name")))
            names += list(dig(held, "data", default={}))
        for name in names:
            if not known(str(name)):
                yield Problem(RULE, where, f"environment variable {name} is read by nothing")
        if "PREFECT_API_URL" in names and "DO_NOT_TRACK" not in names:
            yield Problem(RULE, where, "DO_NOT_TRACK is missing: Prefect would send telemetry")


def known(name: str) -> bool:
    """Whether something in the image reads a variable of this name."""
    if PLAIN.match(name):
        return True
    prefix = name.partition("_")[0]
    if prefix == "PREFECT":
        return name in _prefect()
    if prefix in PACKAGES:
        return name in _read_by_package(PACKAGES[prefix], prefix)
    return name in _read_by_us()


@lru_cache
def _read_by_us() -> frozenset[str]:
    texts = [path.read_text(encoding="utf-8") for folder in OURS for path in (ROOT / folder).rglob("*.py")]
    return frozenset(re.findall(r"\"([A-Z][A-Z0-9_]+)\"", "\n".join(texts)))


@lru_cache
def _read_by_package(package: str, prefix: str) -> frozenset[str]:
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or []) if spec else []
    files = [path for place in places for path in Path(place).rglob("*.py")]
    pattern = re.compile(rf"\b{prefix}_[A-Z0-9_]+\b")
    return frozenset(
        name for path in files for name in pattern.findall(path.read_text(encoding="utf-8", errors="ignore"))
    )


@lru_cache
def _prefect() -> frozenset[str]:
    from prefect.settings import Settings
    from prefect.settings.legacy import _get_settings_fields
    from prefect_kubernetes.settings import KubernetesSettings

    return frozenset(_get_settings_fields(Settings)) | frozenset(_get_settings_fields(KubernetesSettings))


def _metrics(rendered: Rendered) -> Iterator[Problem]:
    """Metric names in alerts, dashboards and autoscalers."""
    recorded = set()
    for thing in rendered.of("PrometheusRule"):
        rules = [rule for group in dig(thing, "spec", "groups", default=[]) for rule in group.get("rules") or []]
        recorded |= {rule["record"] for rule in rules if "record" in rule}
    for thing in rendered.objects:
        for name in sorted(set(_METRIC.findall("\n".join(_texts(thing))))):
            if name not in recorded and name not in exported():
                yield Problem(RULE, label(thing), f"metric {name} is exported by nothing (eclipse/serve/metrics.py)")


def _texts(thing: Object) -> list[str]:
    """The expressions in which an object names metrics."""
    if thing["kind"] == "PrometheusRule":
        rules = [rule for group in dig(thing, "spec", "groups", default=[]) for rule in group.get("rules") or []]
        return [str(rule.get("expr")) for rule in rules]
    if thing["kind"] == "HorizontalPodAutoscaler":
        every = dig(thing, "spec", "metrics", default=[])
        return [str(dig(each, kind, "metric", "name")) for each in every for kind in ("pods", "object", "external")]
    if thing["kind"] == "ConfigMap":
        dashboards = [text for name, text in dig(thing, "data", default={}).items() if name.endswith(".json")]
        return [expr for text in dashboards for expr in _expressions(json.loads(text))]
    return []


def _expressions(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "expr":
                yield str(inner)
            yield from _expressions(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _expressions(inner)


@lru_cache
def exported() -> frozenset[str]:
    """Every series that the service's registry has, with the suffixes of counters and histograms."""
    from eclipse.serve.metrics import Metrics

    names = set()
    for family in Metrics().registry.collect():
        if family.type == "counter":
            names |= {f"{family.name}_total", f"{family.name}_created"}
        elif family.type == "histogram":
            names |= {f"{family.name}_{end}" for end in ("bucket", "sum", "count", "created")}
        else:
            names.add(family.name)
    return frozenset(names)
