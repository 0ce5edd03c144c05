"""The graph for Kubeflow Pipelines: data → embeddings → sweep → selection → registry.

``python -m components.pipeline`` compiles it, runs it here (``--local``) or on a cluster (``--submit``). It has the
stages and edges of dvc.yaml; a test compares them. KFP reads annotations as objects, so they are not postponed here.
"""

from dataclasses import dataclass, replace
from typing import Any

import yaml
from kfp import dsl

from components import stages
from components.cluster import Placement
from eclipse.config import Params

NAME = "eclipse-priors"
RUN = dsl.PIPELINE_JOB_ID_PLACEHOLDER


@dataclass(frozen=True)
class Half:
    """One of the two sweeps: its dataset, and its tasks of training, evaluation, references and selection."""

    dataset: Any
    trained: Any
    judged: Any
    known: Any
    chosen: Any = None

    # A Collected is made anew for each task that reads it: KFP's compiler changes the one that it meets.

    def results(self) -> dict[str, Any]:
        """What a selection reads."""
        return {
            "evaluations": dsl.Collected(self.judged.outputs["metrics"]),
            "references": dsl.Collected(self.known.outputs["metrics"]),
            "priors": dsl.Collected(self.trained.outputs["out"]),
        }

    def pictures(self) -> dict[str, Any]:
        """What a report shows besides the figures of :meth:`results`."""
        return {
            "details": dsl.Collected(self.judged.outputs["out"]),
            "reference_details": dsl.Collected(self.known.outputs["out"]),
            "dataset": self.dataset,
            "selected": self.chosen.outputs["out"],
        }


def build(params: Params, placement: Placement | None = None, *, at_once: int | None = None) -> Any:
    """The pipeline of ``params``, which are also the default of its only parameter.

    ``placement`` says where on a cluster its tasks run; without one they run where the pipeline runs. Of a fan-out
    ``at_once`` tasks run side by side, ``cluster.parallel`` unless it is given. The fan-outs are those of these
    ``params``, as the matrix of a DVC stage is.
    """
    # KFP repeats a default in a comment, where a second line would break out.
    text = yaml.safe_dump(params.model_dump(mode="json"), default_flow_style=True, sort_keys=False, width=10**6).strip()
    graph = Graph(params, placement, at_once or params.cluster.parallel)

    @dsl.pipeline(name=f"{NAME}-graph", description="Data to a registered prior.")
    def body(params: str):  # type: ignore[no-untyped-def]
        graph.whole(params)

    @dsl.pipeline(name=NAME, description="Data to a registered prior, and a report of the run whatever happens.")
    def main_job(params: str = text):  # type: ignore[no-untyped-def]
        # KFP 2.17 compiles a fan-out over mappings wrongly when it stands in an exit handler itself.
        with dsl.ExitHandler(graph.place("report-run", stages.report_run(run=RUN))):
            body(params=params).set_caching_options(enable_caching=False)

    return main_job


class Graph:
    """Wires the components for the sweeps, parts and λ-ECLIPSE half that ``params`` ask for."""

    def __init__(self, params: Params, placement: Placement | None, at_once: int) -> None:
        self.params, self.placement, self.at_once = params, placement, at_once
        count = params.cluster.extraction_parts
        self.parts = [f"{i}/{count}" for i in range(count)]

    def whole(self, params: str) -> None:
        """Everything up to the registry."""
        data = self.place("dataset", stages.dataset(params=params, run=RUN)).outputs["out"]
        models = self.place("frozen", stages.frozen(params=params, run=RUN, dataset=data)).outputs["out"]
        main = self.sweep(params, data, models)
        shown, known = {**main.results(), **main.pictures()}, {}
        if self.params.subjects.points:
            half, grid = self.subjects(params, data, models)
            more = {**half.results(), **half.pictures()}
            del more["priors"]
            shown |= {f"subject_{name}": value for name, value in more.items()} | {"interpolation": grid}
            known = {
                "subject_selected": half.chosen.outputs["out"],
                "subject_evaluations": half.results()["evaluations"],
            }
        self.place("report", stages.report(params=params, run=RUN, **shown))
        last = stages.register(
            params=params,
            run=RUN,
            selected=main.chosen.outputs["out"],
            evaluations=main.results()["evaluations"],
            frozen=models,
            **known,
        )
        self.place("register", last)

    def sweep(self, params: str, data: Any, models: Any) -> Half:
        """ECLIPSE and its baselines, up to the selected prior."""
        store = self.embed("", params, data, models)
        given = {"params": params, "run": RUN, "store": store, "dataset": data, "frozen": models}
        with self.each(_points(self.params.sweep.points, self.params.sweep.seeds)) as item:
            which = {"point": item.point, "seed": item.seed}
            trained = self.place("train", stages.train(params=params, run=RUN, store=store, **which))
            judged = self.place("evaluate", stages.evaluate(prior=trained.outputs["out"], **given, **which))
        with self.each(["truth", "text"]) as point:
            known = self.place("reference", stages.reference(point=point, **given))
        half = Half(data, trained, judged, known)
        return replace(half, chosen=self.place("select", stages.select(params=params, run=RUN, **half.results())))

    def subjects(self, params: str, data: Any, models: Any) -> tuple[Half, Any]:
        """λ-ECLIPSE: the same pictures with subjects, up to the selected prior, and the grid made with it."""
        data = self.place("annotate", stages.annotate(params=params, run=RUN, dataset=data)).outputs["out"]
        store = self.embed("-subjects", params, data, models)
        given = {"params": params, "run": RUN, "store": store, "dataset": data, "frozen": models}
        sweep = self.params.subjects
        with self.each(_points(sweep.points, sweep.seeds)) as item:
            which = {"point": item.point, "seed": item.seed}
            trained = self.place("train-subjects", stages.train(params=params, run=RUN, store=store, **which))
            judged = stages.evaluate_subjects(prior=trained.outputs["out"], **given, **which)
            self.place("evaluate-subjects", judged)
        priors = dsl.Collected(trained.outputs["out"])
        prior = self.place("text-only", stages.text_only(name=f"{sweep.text_only}-0", priors=priors)).outputs["out"]
        with self.each(["truth", "subject", "mean"]) as point:
            known = stages.reference_subjects(point=point, prior=prior, **given)
            self.place("reference-subjects", known)
        half = Half(data, trained, judged, known)
        chosen = stages.select_subjects(params=params, run=RUN, **half.results())
        half = replace(half, chosen=self.place("select-subjects", chosen))
        grid = stages.interpolate(params=params, run=RUN, frozen=models, prior=half.chosen.outputs["out"])
        return half, self.place("interpolate", grid).outputs["out"]

    def embed(self, suffix: str, params: str, data: Any, models: Any) -> Any:
        """The store of ``data``, each range of its shards embedded by a task of its own."""
        given = {"params": params, "run": RUN, "dataset": data, "frozen": models}
        with self.each(self.parts) as part:
            piece = self.place(f"embed-part{suffix}", stages.embed_part(part=part, **given))
        whole = stages.embed(parts=dsl.Collected(piece.outputs["out"]), **given)
        return self.place(f"embed{suffix}", whole).outputs["out"]

    def each(self, items: list[Any]) -> Any:
        """A fan-out over ``items``."""
        return dsl.ParallelFor(items=items, parallelism=self.at_once)

    def place(self, name: str, task: Any) -> Any:
        """Name the task as dvc.yaml does, and say where it runs. KFP's own cache is off: it knows no contents."""
        task.set_display_name(name).set_caching_options(enable_caching=False)
        return self.placement.put(name, task) if self.placement else task


def _points(points: tuple[str, ...], seeds: tuple[int, ...]) -> list[dict[str, str]]:
    return [{"point": point, "seed": str(seed)} for point in points for seed in seeds]


if __name__ == "__main__":
    from components.command import main

    raise SystemExit(main())
