"""A component for each stage: artifact paths in, figures out. Parameters travel as one YAML string.

KFP would turn the integers of a mapping into floats, and reads annotations as objects, so that they are not postponed
in this module. It also copies a function's source into the pipeline: each body imports what it uses.
"""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Markdown, Metrics, Model, Output, PipelineTaskFinalStatus

IMAGE = "eclipse-trainer:0.1.0"
"""Where a task runs unless ``cluster.image`` says otherwise."""

component = dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)


@component
def dataset(params: str, run: str, out: Output[Dataset], metrics: Output[Metrics]) -> None:
    """Captioned images as tar shards with a manifest."""
    from components.call import call

    call("dataset", params, run, {}, out=out, metrics=metrics)


@component
def frozen(params: str, run: str, dataset: Input[Dataset], out: Output[Model], metrics: Output[Metrics]) -> None:
    """The frozen CLIP and decoder that a prior stands between."""
    from components.call import call

    call("frozen", params, run, {"dataset": dataset}, out=out, metrics=metrics)


@component
def annotate(params: str, run: str, dataset: Input[Dataset], out: Output[Dataset], metrics: Output[Metrics]) -> None:
    """Captions with subjects, each with the place of its noun and a picture."""
    from components.call import call

    call("annotate", params, run, {"dataset": dataset}, out=out, metrics=metrics)


@component
def embed_part(
    params: str,
    run: str,
    part: str,
    dataset: Input[Dataset],
    frozen: Input[Model],
    out: Output[Dataset],
    metrics: Output[Metrics],
) -> None:
    """Frozen encoders over one range of the shards."""
    from components.call import call

    call("embed", params, run, {"dataset": dataset, "frozen": frozen}, out=out, metrics=metrics, part=part)


@component
def embed(
    params: str,
    run: str,
    parts: Input[list[Dataset]],
    dataset: Input[Dataset],
    frozen: Input[Model],
    out: Output[Dataset],
    metrics: Output[Metrics],
) -> None:
    """The parts put together: the embedding store."""
    from components.call import call

    call("embed", params, run, {"dataset": dataset, "frozen": frozen, "parts": parts}, out=out, metrics=metrics)


@component
def train(
    params: str,
    run: str,
    point: str,
    seed: str,
    store: Input[Dataset],
    out: Output[Model],
    metrics: Output[Metrics],
) -> None:
    """One prior of a sweep."""
    from components.call import call

    call("train", params, run, {"store": store}, out=out, metrics=metrics, point=point, seed=seed)


@component
def evaluate(
    params: str,
    run: str,
    point: str,
    seed: str,
    store: Input[Dataset],
    dataset: Input[Dataset],
    frozen: Input[Model],
    prior: Input[Model],
    out: Output[Artifact],
    metrics: Output[Metrics],
) -> None:
    """One prior on seen and held-out captions, with decoded pictures."""
    from components.call import call

    inputs = {"store": store, "dataset": dataset, "frozen": frozen, "prior": prior}
    call("evaluate", params, run, inputs, out=out, metrics=metrics, point=point, seed=seed)


@component
def reference(
    params: str,
    run: str,
    point: str,
    store: Input[Dataset],
    dataset: Input[Dataset],
    frozen: Input[Model],
    out: Output[Artifact],
    metrics: Output[Metrics],
) -> None:
    """The ceiling (true image embeddings) or the floor (text embeddings in their place)."""
    from components.call import call

    inputs = {"store": store, "dataset": dataset, "frozen": frozen}
    call("evaluate", params, run, inputs, out=out, metrics=metrics, point=point, seed="0")


@component
def select(
    params: str,
    run: str,
    evaluations: Input[list[Metrics]],
    references: Input[list[Metrics]],
    priors: Input[list[Model]],
    out: Output[Model],
    metrics: Output[Metrics],
) -> None:
    """The best prior by the written rule, from validation splits only."""
    from components.call import call

    inputs = {"evaluations": [*evaluations, *references], "priors": priors}
    call("select", params, run, inputs, out=out, metrics=metrics)


@component
def evaluate_subjects(
    params: str,
    run: str,
    point: str,
    seed: str,
    store: Input[Dataset],
    dataset: Input[Dataset],
    frozen: Input[Model],
    prior: Input[Model],
    out: Output[Artifact],
    metrics: Output[Metrics],
) -> None:
    """One prior on subjects and combinations it never saw, with decoded pictures."""
    from components.call import call

    inputs = {"store": store, "dataset": dataset, "frozen": frozen, "prior": prior}
    call("evaluate-subjects", params, run, inputs, out=out, metrics=metrics, point=point, seed=seed)


@component
def text_only(name: str, priors: Input[list[Model]], out: Output[Model]) -> None:
    """The prior called ``name`` out of a fan-out, which another fan-out cannot read in KFP 2.17."""
    from components.artifacts import pick

    pick(name, priors, out)


@component
def reference_subjects(
    params: str,
    run: str,
    point: str,
    store: Input[Dataset],
    dataset: Input[Dataset],
    frozen: Input[Model],
    prior: Input[Model],
    out: Output[Artifact],
    metrics: Output[Metrics],
) -> None:
    """True image embeddings, the subjects' own, or their mean with what the text-only ``prior`` predicts."""
    from components.call import call

    inputs = {"store": store, "dataset": dataset, "frozen": frozen, "prior": prior}
    call("evaluate-subjects", params, run, inputs, out=out, metrics=metrics, point=point, seed="0")


@component
def select_subjects(
    params: str,
    run: str,
    evaluations: Input[list[Metrics]],
    references: Input[list[Metrics]],
    priors: Input[list[Model]],
    out: Output[Model],
    metrics: Output[Metrics],
) -> None:
    """The best λ-ECLIPSE prior by the written rule, from validation splits only."""
    from components.call import call

    inputs = {"evaluations": [*evaluations, *references], "priors": priors}
    call("select-subjects", params, run, inputs, out=out, metrics=metrics)


@component
def interpolate(params: str, run: str, frozen: Input[Model], prior: Input[Model], out: Output[Artifact]) -> None:
    """A grid of pictures between four personalised corners, and how even its steps are."""
    from components.call import call

    corners = {"grid": "docs/examples/corners.yaml", "steps": "7"}
    call("interpolate", params, run, {"frozen": frozen, "prior": prior}, out=out, inside="grid.png", **corners)


@component
def report(
    params: str,
    run: str,
    evaluations: Input[list[Metrics]],
    references: Input[list[Metrics]],
    details: Input[list[Artifact]],
    reference_details: Input[list[Artifact]],
    priors: Input[list[Model]],
    selected: Input[Model],
    dataset: Input[Dataset],
    out: Output[Artifact],
    page: Output[HTML],
    subject_evaluations: Input[list[Metrics]] | None = None,
    subject_references: Input[list[Metrics]] | None = None,
    subject_details: Input[list[Artifact]] | None = None,
    subject_reference_details: Input[list[Artifact]] | None = None,
    subject_dataset: Input[Dataset] | None = None,
    subject_selected: Input[Model] | None = None,
    interpolation: Input[Artifact] | None = None,
) -> None:
    """The sweep, and that of λ-ECLIPSE where there is one, as one self-contained page."""
    import shutil
    from pathlib import Path

    from components.call import call

    inputs = {"priors": priors, "selected": selected, "dataset": dataset}
    inputs |= {"evaluations": [*evaluations, *references], "details": [*details, *reference_details]}
    if subject_selected is not None:
        half = {"dataset": subject_dataset, "selected": subject_selected, "interpolation": interpolation}
        inputs["subjects"] = {**half, "evaluate": (subject_details or []) + (subject_reference_details or [])}
        inputs["subject_evaluations"] = (subject_evaluations or []) + (subject_references or [])
    call("report", params, run, inputs, out=out, study="study/results")
    shutil.copyfile(Path(out.path) / "report.html", page.path)


@component
def register(
    params: str,
    run: str,
    selected: Input[Model],
    evaluations: Input[list[Metrics]],
    frozen: Input[Model],
    subject_selected: Input[Model] | None = None,
    subject_evaluations: Input[list[Metrics]] | None = None,
) -> None:
    """What was selected, in MLflow's registry; what is there already is left as it is."""
    from components.call import call

    inputs = {"selected": selected, "evaluations": evaluations, "frozen": frozen}
    if subject_selected is not None:
        inputs["subjects"] = {"selected": subject_selected}
        inputs["subject_metrics"] = {"evaluate": subject_evaluations}
    call("register", params, run, inputs, lock="none/dvc.lock")  # the repository's own is not of this run


@component
def report_run(run: str, status: PipelineTaskFinalStatus, out: Output[Markdown]) -> None:
    """How the run ended, and what each of its tasks did."""
    from components.runs import report

    report(run, status, out.path)
