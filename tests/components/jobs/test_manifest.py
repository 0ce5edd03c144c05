"""Manifests: made from parameters, and refused where the API would silently drop or misread something."""

from __future__ import annotations

import copy
import re

import kubernetes_validate
import pytest
import yaml
from made_checkout import ROOT

from components.jobs.errors import JobError
from components.jobs.manifest import Work, as_yaml, checked, extraction_job, failure_policy, train_job
from eclipse.config.cluster import ClusterParams
from eclipse.train.interrupt import EX_TEMPFAIL

WORK = Work("train@eclipse-0.2-7", "ab12" * 16, "profile: tiny\nhold_out: a$(b)$$\n", "embed: {}\n", "c" * 40)
RUNTIMES = {
    each["metadata"]["name"]: each
    for path in (ROOT / "k8s/components/trainer").glob("torchrun*.yaml")
    for each in yaml.safe_load_all(path.read_text())
}


def pod_of(runtime):
    (job,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    return job["template"]["spec"]["template"]


def expanded(value: str) -> str:
    """What a container gets to see of a value that names no variable."""
    return re.sub(r"\$\$|\$\(\w+\)", lambda found: "$" if found[0] == "$$" else "", value)


def test_a_point_becomes_a_train_job():
    cluster = ClusterParams(nodes=2, processes=8, gpus=True, cpu="64", memory="512Gi", runtime="eclipse-torchrun-gpu")
    made = train_job(WORK, cluster)
    assert made["metadata"]["name"] == "train-eclipse-0-2-7-ab12ab12ab"
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "training"
    assert made["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "eclipse-training"
    assert made["spec"]["runtimeRef"]["name"] == "eclipse-torchrun-gpu"
    trainer = made["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 8)
    amounts = {"cpu": "64", "memory": "512Gi", "nvidia.com/gpu": "8"}
    assert trainer["resourcesPerNode"] == {"requests": amounts, "limits": amounts}
    words = ["--stage", "train", "--point", "eclipse-0.2", "--seed", "7", "--key", WORK.key, "--commit", "c" * 40]
    assert trainer["command"] == ["python", "-m", "components.jobs.train", *words]
    sent = {each["name"]: expanded(each["value"]) for each in trainer["env"]}
    assert sent == {"ECLIPSE_PARAMS": WORK.params, "ECLIPSE_LOCK": WORK.lock}
    assert yaml.safe_load(as_yaml(made)) == made


def test_without_kueue_and_gpus_nothing_of_them_is_said():
    made = train_job(WORK, ClusterParams(queue=None))
    assert not [key for key in made["metadata"]["labels"] if key.startswith("kueue")]
    assert "nvidia.com/gpu" not in made["spec"]["trainer"]["resourcesPerNode"]["limits"]


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("spec", "trainer", "numProcs"), 2, "TrainJob.spec.trainer.numProcs"),
        (("spec", "trainer", "numNodes"), "2", "numNodes"),
        (("spec", "podTemplateOverrides"), [], "TrainJob.spec.podTemplateOverrides"),
        (("kind",), "TrainingJob", "TrainingJob"),
        (("spec", "runtimeRef"), {"kind": "ClusterTrainingRuntime"}, "name"),
        (("metadata", "lables"), {}, "TrainJob.metadata.lables"),
    ],
)
def test_what_the_sdk_would_drop_or_refuse_is_an_error(path, value, told):
    made = copy.deepcopy(train_job(WORK, ClusterParams()))
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(JobError, match=told):
        checked(made)


@pytest.mark.parametrize("name", ["eclipse-torchrun", "eclipse-torchrun-gpu"])
def test_runtimes_are_valid_and_leave_time_for_a_checkpoint(name):
    runtime = checked(RUNTIMES[name])
    spec = runtime["spec"]["template"]["spec"]
    (job,) = spec["replicatedJobs"]
    assert job["template"]["spec"]["podFailurePolicy"] == failure_policy("FailJob")
    assert spec["failurePolicy"]["rules"][0]["onJobFailureReasons"] == ["PodFailurePolicy"]
    pod = pod_of(runtime)["spec"]
    assert pod["restartPolicy"] == "Never", "a pod failure policy is refused otherwise"
    env = {each["name"]: each["value"] for each in pod["containers"][0]["env"]}
    assert int(env["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]) < pod["terminationGracePeriodSeconds"]
    core = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "node"}, "spec": job["template"]["spec"]}
    kubernetes_validate.validate(core, "1.34", strict=True)


def test_policies_tell_polite_stops_and_bad_input_from_crashes():
    by_action: dict[str, list] = {}
    for rule in failure_policy("FailIndex")["rules"]:
        by_action.setdefault(rule["action"], []).extend(rule.get("onExitCodes", {}).get("values", ["evicted"]))
    assert by_action == {"Ignore": ["evicted", EX_TEMPFAIL], "FailIndex": [2]}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_extraction_is_an_indexed_job_with_the_runtime_s_pods(runtime):
    cluster = ClusterParams(extraction_parts=6, gpus=runtime.endswith("gpu"))
    work = Work("embed-subjects@world", WORK.key, WORK.params, WORK.lock)
    made = extraction_job(work, cluster, pod_of(RUNTIMES[runtime]))
    kubernetes_validate.validate(made, "1.34", strict=True)
    assert made["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "eclipse-extraction"
    assert (made["spec"]["completions"], made["spec"]["parallelism"]) == (6, 6)
    pod = made["spec"]["template"]["spec"]
    assert pod["priorityClassName"] == "eclipse-extraction"
    assert pod["volumes"] == pod_of(RUNTIMES[runtime])["spec"]["volumes"]
    (container,) = pod["containers"]
    assert container["command"][3:] == ["--stage", "embed-subjects@world", "--parts", "6", "--key", WORK.key]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["resources"]["limits"].get("nvidia.com/gpu") == ("1" if cluster.gpus else None)
    assert "&id" not in as_yaml(made)


def test_names_differ_by_point_and_inputs_and_fit():
    works = [
        Work(stage, key * 64, "", "")
        for stage in ("train@lambda-0.5-edges-0", "train@lambda-0-5-edges-0")
        for key in "ab"
    ]
    works.append(Work(f"train-subjects@{'lambda-0.123456789-edges'}-123456", "c" * 64, "", ""))
    names = {work.name for work in works}
    assert len(names) == 3, "dots and dashes look alike, so the key has to tell them apart"
    for name in names:
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
        assert len(f"{name}-node-0-0-xxxxx") <= 63
