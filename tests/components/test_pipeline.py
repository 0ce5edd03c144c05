"""The compiled pipeline against dvc.yaml, the graph of record, and what it asks of a cluster."""

from __future__ import annotations

import re

import pytest
import yaml

from closure import ROOT
from compiled_pipeline import Compiled
from components import call as calls
from components import stages
from components.cluster import Placement
from eclipse.config import load_params
from eclipse.errors import ConfigError
from eclipse.stages.registry import describe

PARAMS = load_params(ROOT / "params.yaml")
GRAPH = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARTS = {"embed-part": "embed", "embed-part-subjects": "embed-subjects"}
AFTER = {"register", "report-run"}  # what writes to a server, or tells of the run, is no DVC stage
PICKED = "text-only"  # hands one prior of a fan-out on
NOT_READ = {("embed-subjects", "report"), ("train-subjects", "report")}  # in the folder that dvc.yaml names as a whole

COMPONENTS = {
    "embed-subjects": "embed",
    "train-subjects": "train",
    **{name: name.replace("-", "_") for name in ("evaluate-subjects", "reference-subjects", "select-subjects")},
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return Compiled(PARAMS, tmp_path_factory.mktemp("kfp") / "pipeline.yaml")


@pytest.fixture(scope="module")
def on_gpus(tmp_path_factory):
    cluster = ["cluster.gpus=true", "cluster.processes=4", "cluster.image=registry.example/trainer@sha256:aa"]
    params = load_params(ROOT / "params.yaml", [*cluster, "cluster.queue=null", "subjects.points=[]"])
    return Compiled(params, tmp_path_factory.mktemp("kfp") / "gpus.yaml")


def folder(path):
    """A path up to the first thing that depends on the item, as the prefix of what lies there."""
    filled = path.replace("${subjects.results}", PARAMS.subjects.results.as_posix())
    return filled.split("${")[0].rstrip("/") + "/"


def recorded_edges():
    """(maker, reader) of dvc.yaml: one stage's output is, holds or lies in what another depends on."""
    made = [
        (stage, folder(next(iter(out)) if isinstance(out, dict) else out))
        for stage, entry in GRAPH.items()
        for out in [*entry["outs"], *entry.get("metrics", [])]
    ]
    read = [(stage, folder(dep)) for stage, entry in GRAPH.items() for dep in entry["deps"]]
    return {(a, b) for a, out in made for b, dep in read if out.startswith(dep) or dep.startswith(out)}


def test_edges_are_those_of_the_graph_of_record(compiled):
    found = {(PARTS.get(a, a), PARTS.get(b, b)) for a, b in compiled.edges()}
    handed_on = {(a, b) for a, x in found if x == PICKED for y, b in found if y == PICKED}
    found = {edge for edge in found | handed_on if PICKED not in edge and edge[0] != edge[1]}
    assert {edge for edge in found if edge[1] not in AFTER} == recorded_edges() - NOT_READ
    assert {a for a, b in found if b == "register"} == {
        "select", "select-subjects", "evaluate", "evaluate-subjects", "frozen",
    }  # fmt: skip


def test_tasks_are_the_stages(compiled):
    assert set(compiled.tasks()) == set(GRAPH) | set(PARTS) | AFTER | {PICKED}


def test_without_subjects_their_half_is_not_there(on_gpus):
    half = {name for name in GRAPH if name.endswith("-subjects")} | {"annotate", "interpolate"}
    assert set(on_gpus.tasks()) == (set(GRAPH) - half) | {"embed-part"} | AFTER


def asked_of(monkeypatch, name):
    """What the component asks :func:`call` for: the stage, and its flags with what was given for them."""
    asked = []
    monkeypatch.setattr(calls, "call", lambda *given, **named: asked.append((given, named)))
    monkeypatch.setattr("shutil.copyfile", lambda source, target: None)
    component = getattr(stages, name)
    interface = component.component_spec
    given = {key: [key] if value.is_artifact_list else key for key, value in (interface.inputs or {}).items()}
    given |= {key: Made(key) for key in interface.outputs or {}}
    component.python_func(**given)
    (((stage, params, run, inputs), named),) = asked
    assert (params, run) == ("params", "run")
    inside = named.pop("inside", "")
    return stage, {f"--{flag.replace('_', '-')}": value for flag, value in {**inputs, **named}.items()}, inside


class Made:
    def __init__(self, path):
        self.path = path


@pytest.mark.parametrize("name", GRAPH)
def test_flags_and_fixed_values_are_those_of_the_graph(monkeypatch, name):
    words = GRAPH[name]["cmd"].split()
    given = dict(zip(words[4::2], words[5::2], strict=True))
    stage, flags, inside = asked_of(monkeypatch, COMPONENTS.get(name, name))
    assert stage == words[3]
    own = {flag for flag in given if flag != "--checkpoints"}
    assert set(flags) - {"--parts"} == own
    fixed = {flag: value for flag, value in given.items() if flags.get(flag) == value}
    assert all(
        value in (flag.removeprefix("--"), fixed.get(flag)) for flag, value in flags.items() if type(value) is str
    )
    assert given["--out"].endswith(inside)


@pytest.mark.parametrize(
    ("name", "fixed"),
    [
        ("interpolate", {"--grid": "docs/examples/corners.yaml", "--steps": "7"}),
        ("reference", {"--seed": "0"}),
        ("reference-subjects", {"--seed": "0"}),
        ("report", {"--study": "study/results"}),
    ],
)
def test_fixed_values(monkeypatch, name, fixed):
    _, flags, _ = asked_of(monkeypatch, COMPONENTS.get(name, name))
    assert {flag: flags[flag] for flag in fixed} == fixed


def test_register_and_the_parts_give_flags_that_their_stages_have(monkeypatch):
    for component in ("register", "embed_part"):
        stage, flags, _ = asked_of(monkeypatch, component)
        known = {f"--{flag.name.replace('_', '-')}": flag for flag in describe(stage).flags}
        assert set(flags) <= set(known)
        assert {flag for flag, what in known.items() if what.required} <= set(flags)


def test_report_gets_the_folders_of_the_other_half(monkeypatch):
    _, flags, _ = asked_of(monkeypatch, "report")
    half = {"subject_details", "subject_reference_details"}
    assert set(flags["--subjects"]) == {"dataset", "evaluate", "selected", "interpolation"}
    assert set(flags["--subjects"]["evaluate"]) == half
    assert flags["--evaluations"] == ["evaluations", "references"]


@pytest.mark.parametrize("sweep", ["", "-subjects"])
def test_fan_outs_are_the_matrices(compiled, sweep):
    swept = PARAMS.subjects if sweep else PARAMS.sweep
    expected = [{"point": point, "seed": str(seed)} for point in swept.points for seed in swept.seeds]
    assert compiled.loop_of(f"train{sweep}") == expected == compiled.loop_of(f"evaluate{sweep}")
    assert compiled.loop_of(f"reference{sweep}") == GRAPH[f"reference{sweep}"]["matrix"]["point"]
    assert compiled.loop_of(f"embed-part{sweep}") == ["0/4", "1/4", "2/4", "3/4"]


def test_parameters_travel_unchanged_and_nothing_else_does(compiled):
    inputs = compiled.ir["root"]["inputDefinitions"]
    assert set(inputs) == {"parameters"} and set(inputs["parameters"]) == {"params"}
    travelled = yaml.safe_load(inputs["parameters"]["params"]["defaultValue"])
    assert travelled == PARAMS.model_dump(mode="json")
    assert isinstance(travelled["train"]["steps"], int)


def test_artifacts_have_types(compiled):
    types = {
        (name, output): content["artifactType"]["schemaTitle"].removeprefix("system.")
        for name in compiled.tasks()
        for output, content in compiled.component(name).get("outputDefinitions", {}).get("artifacts", {}).items()
    }
    assert {kind for (_, output), kind in types.items() if output == "metrics"} == {"Metrics"}
    assert {name for (name, output), kind in types.items() if kind == "Model"} == {
        "frozen", "train", "train-subjects", "select", "select-subjects", PICKED,
    }  # fmt: skip
    assert types["dataset", "out"] == types["embed", "out"] == "Dataset"
    assert types["report", "page"] == "HTML" and types["report-run", "out"] == "Markdown"


def test_kfp_remembers_nothing_by_name(compiled):
    assert all(not task.get("cachingOptions", {}).get("enableCache") for task in compiled.tasks().values())


def test_the_run_is_reported_whatever_happens(compiled):
    task = compiled.tasks()["report-run"]
    assert task["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert "taskFinalStatus" in task["inputs"]["parameters"]["status"]
    assert all("{{$.pipeline_job_uuid}}" in str(t["inputs"]) for n, t in compiled.tasks().items() if n != PICKED)


class TestOnACluster:
    def test_every_pod_is_restricted_labelled_and_limited(self, compiled):
        for name in compiled.tasks():
            label = compiled.executor(name)
            pod, container = compiled.kubernetes[label], compiled.executors[label]["container"]
            assert pod["securityContext"] == {"runAsUser": "10001", "runAsGroup": "10001", "runAsNonRoot": True}
            assert pod["podMetadata"]["labels"]["app.kubernetes.io/part-of"] == "eclipse"
            assert {"resourceCpuLimit", "resourceMemoryLimit"} <= set(container["resources"]), name
            assert container["image"] == PARAMS.cluster.image
            mounts = {mount["mountPath"]: mount for mount in pod["emptyDirMounts"]}
            assert mounts["/dev/shm"]["medium"] == "Memory" and "/tmp" in mounts
            assert {"constant": "eclipse-results", "mountPath": "/results"}.items() <= pod["pvcMount"][0].items()

    def test_secrets_are_mounted_where_they_are_needed_and_are_nowhere_else(self, compiled):
        holders = {name for name in compiled.tasks() if "secretAsEnv" in compiled.kubernetes[compiled.executor(name)]}
        assert holders == {"register"}
        pod = compiled.kubernetes[compiled.executor("register")]
        assert [secret["secretName"] for secret in pod["secretAsEnv"]] == ["eclipse-s3"]
        assert [mount["constant"] for mount in pod["pvcMount"]] == ["eclipse-results", "eclipse-releases"]
        assert pod["configMapAsEnv"][0]["configMapName"] == "eclipse-environment"
        plain = {item["name"] for e in compiled.executors.values() for item in e["container"].get("env", [])}
        assert plain == {"ECLIPSE_PIPELINE", "HOME", "HF_HOME", "ECLIPSE_RELEASES"}
        assert not re.search("(?i)secret|AWS_", str(compiled.ir))

    def test_queues(self, compiled, on_gpus):
        def queues(of):
            labels = {name: of.kubernetes[of.executor(name)]["podMetadata"]["labels"] for name in of.tasks()}
            return {n: found["kueue.x-k8s.io/queue-name"] for n, found in labels.items() if len(found) > 3}

        training = dict.fromkeys(("train", "train-subjects"), "training")
        assert queues(compiled) == training | dict.fromkeys(("embed-part", "embed-part-subjects"), "extraction")
        assert queues(on_gpus) == {"embed-part": "extraction"}

    def test_gpus_for_what_computes(self, compiled, on_gpus):
        def gpus(of):
            resources = {name: of.executors[of.executor(name)]["container"]["resources"] for name in of.tasks()}
            return {n: r["accelerator"]["resourceCount"] for n, r in resources.items() if "accelerator" in r}

        assert gpus(compiled) == {}
        assert gpus(on_gpus) == {"train": "4", "embed-part": "1", "evaluate": "1", "reference": "1"}
        pod = on_gpus.kubernetes[on_gpus.executor("train")]
        assert pod["tolerations"][0]["key"] == "nvidia.com/gpu"
        assert on_gpus.executors["exec-train"]["container"]["image"] == "registry.example/trainer@sha256:aa"

    def test_what_a_preempted_pod_loses_is_tried_again(self, compiled):
        tried = {name for name, task in compiled.tasks().items() if "retryPolicy" in task}
        assert {"train", "embed-part", "evaluate"} <= tried and "register" not in tried and "select" not in tried

    def test_several_nodes_are_refused(self):
        params = load_params(ROOT / "params.yaml", ["cluster.nodes=2"])
        with pytest.raises(ConfigError, match=r"cluster\.nodes: .* one pod .*components\.jobs"):
            Placement(params)
