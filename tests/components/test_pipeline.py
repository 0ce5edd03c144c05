"""The Kubeflow pipeline compiles, and its components call the stages as their signatures ask."""

from __future__ import annotations

import pytest
import yaml
from kfp import compiler

from closure import ROOT
from components.pipeline import build
from eclipse.stages.registry import describe

PARAMS = (ROOT / "params.yaml").read_text()
STAGES = ("dataset", "frozen", "embed", "train", "evaluate")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    path = tmp_path_factory.mktemp("kfp") / "pipeline.yaml"
    compiler.Compiler().compile(build(PARAMS), str(path))
    return next(yaml.safe_load_all(path.read_text()))


@pytest.mark.parametrize("name", STAGES)
def test_flags_are_those_of_the_stage(compiled, name):
    args = compiled["deploymentSpec"]["executors"][f"exec-{name}"]["container"]["args"]
    assert args[0] == "{{$.inputs.parameters['params']}}"
    assert args[1] == name
    given = set(args[2::2])
    flags = {f"--{flag.name.replace('_', '-')}": flag for flag in describe(name).flags}
    assert given <= set(flags)
    assert {flag for flag, what in flags.items() if what.required} <= given


def test_every_point_and_seed_has_a_branch(compiled):
    (loop,) = (task for task in compiled["root"]["dag"]["tasks"].values() if "parameterIterator" in task)
    items = yaml.safe_load(loop["parameterIterator"]["items"]["raw"])
    sweep = yaml.safe_load(PARAMS)["sweep"]
    expected = {(point, str(seed)) for point in sweep["points"] for seed in sweep["seeds"]}
    assert {(item["point"], item["seed"]) for item in items} == expected


def test_edges_are_those_of_the_graph_of_record(compiled):
    """Both graphs say which stage's output another reads; the pipeline's are compared with dvc.yaml's paths."""
    graph = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    made = {out.split("/")[1]: name for name in STAGES for out in graph[name]["outs"]}
    expected = {
        (made[dep.split("/")[1]], name)
        for name in STAGES
        for dep in graph[name]["deps"]
        if dep.startswith("artifacts/")
    }
    dags = [compiled["root"]["dag"], *(c["dag"] for c in compiled["components"].values() if "dag" in c)]
    found = set()
    for dag in dags:
        for name, task in dag["tasks"].items():
            for source in task["inputs"].get("artifacts", {}).values():
                producer = source.get("taskOutputArtifact", {}).get("producerTask")
                if producer is None:
                    producer = source["componentInputArtifact"].removeprefix("pipelinechannel--").removesuffix("-out")
                if name in STAGES:
                    found.add((producer, name))
    assert found == expected


def test_parameters_travel_unchanged(compiled):
    value = compiled["root"]["inputDefinitions"]["parameters"]["params"]["defaultValue"]
    assert yaml.safe_load(value) == yaml.safe_load(PARAMS)
