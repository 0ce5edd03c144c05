"""The graph up to evaluation for Kubeflow Pipelines: dataset → frozen → embed → (train → evaluate) for each point.

``python -m components.pipeline FILE.yaml`` compiles it. Every component is the stage's own command line in a container;
the parameters travel as one string, because KFP would turn the integers of a mapping into floats. KFP reads the
annotations as objects, so they are not postponed in this module.
"""

import os
import sys
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler, dsl
from kfp.dsl import Artifact, Input, Output

ROOT = Path(__file__).resolve().parent.parent
IMAGE = os.environ.get("ECLIPSE_IMAGE", "eclipse:latest")

# $1 is the parameters' YAML; the rest is the stage and its flags.
_CALL = 'set -eu; printf "%s" "$1" > params.yaml; shift; exec python -m eclipse "$@"'


def _stage(name: str, params: str, **flags: Any) -> dsl.ContainerSpec:
    words = [word for flag, value in flags.items() for word in (f"--{flag}", value)]
    return dsl.ContainerSpec(image=IMAGE, command=["sh", "-c", _CALL, "eclipse"], args=[params, name, *words])


@dsl.container_component
def dataset(params: str, out: Output[Artifact], metrics: Output[Artifact]):
    """Captioned images as tar shards with a manifest."""
    return _stage("dataset", params, out=out.path, metrics=metrics.path)


@dsl.container_component
def frozen(params: str, dataset: Input[Artifact], out: Output[Artifact], metrics: Output[Artifact]):
    """The frozen CLIP and decoder that a prior stands between."""
    paths = {"dataset": dataset.path, "out": out.path, "metrics": metrics.path, "checkpoints": "checkpoints"}
    return _stage("frozen", params, **paths)


@dsl.container_component
def embed(
    params: str, dataset: Input[Artifact], frozen: Input[Artifact], out: Output[Artifact], metrics: Output[Artifact]
):
    """Frozen encoders over all shards into the embedding store."""
    return _stage("embed", params, dataset=dataset.path, frozen=frozen.path, out=out.path, metrics=metrics.path)


@dsl.container_component
def train(params: str, point: str, seed: str, store: Input[Artifact], out: Output[Artifact], metrics: Output[Artifact]):
    """One prior of the sweep."""
    paths = {"store": store.path, "out": out.path, "metrics": metrics.path, "checkpoints": "checkpoints"}
    return _stage("train", params, point=point, seed=seed, **paths)


@dsl.container_component
def evaluate(
    params: str,
    point: str,
    seed: str,
    store: Input[Artifact],
    dataset: Input[Artifact],
    frozen: Input[Artifact],
    prior: Input[Artifact],
    out: Output[Artifact],
    metrics: Output[Artifact],
):
    """One prior on seen and held-out captions, with decoded pictures."""
    inputs = {"store": store.path, "dataset": dataset.path, "frozen": frozen.path, "prior": prior.path}
    return _stage("evaluate", params, point=point, seed=seed, **inputs, out=out.path, metrics=metrics.path)


def build(params: str) -> Any:
    """The pipeline for the sweep in ``params`` (the text of a params.yaml), which is also its parameter's default."""
    values = yaml.safe_load(params)
    sweep = values["sweep"]
    # KFP repeats a default in a comment, where a second line would break out.
    one_line = yaml.safe_dump(values, default_flow_style=True, sort_keys=False, width=10**6).strip()
    points = [{"point": point, "seed": str(seed)} for point in sweep["points"] for seed in sweep["seeds"]]

    @dsl.pipeline(name="eclipse-priors", description="Data to evaluated priors, one branch for each point and seed.")
    def main_job(params: str = one_line):
        data = dataset(params=params).outputs["out"]
        models = frozen(params=params, dataset=data).outputs["out"]
        store = embed(params=params, dataset=data, frozen=models).outputs["out"]
        with dsl.ParallelFor(items=points, parallelism=4) as item:
            prior = train(params=params, point=item.point, seed=item.seed, store=store).outputs["out"]
            evaluate(
                params=params, point=item.point, seed=item.seed, store=store, dataset=data, frozen=models, prior=prior
            )

    return main_job


if __name__ == "__main__":
    compiler.Compiler().compile(build((ROOT / "params.yaml").read_text(encoding="utf-8")), sys.argv[1])
