"""Reads the compiled pipeline: its tasks by the names that people see, and who made what each of them reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler

from components.cluster import Placement
from components.pipeline import build
from eclipse.config import Params


class Compiled:
    """The IR of the pipeline of ``params`` in its cluster form, and the settings for Kubernetes."""

    def __init__(self, params: Params, file: Path) -> None:
        compiler.Compiler().compile(build(params, Placement(params)), str(file))
        self.ir, platforms = yaml.load_all(file.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        self.kubernetes = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        self.executors = self.ir["deploymentSpec"]["executors"]
        self.dags = {name: c["dag"] for name, c in self.ir["components"].items() if "dag" in c} | {
            "root": self.ir["root"]["dag"]
        }
        self.parents = {
            task["componentRef"]["name"]: (dag, task) for dag, _, task in self._tasks() if self._is_dag(task)
        }

    def _tasks(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        for dag, content in self.dags.items():
            yield from ((dag, name, task) for name, task in content["tasks"].items())

    def _is_dag(self, task: dict[str, Any]) -> bool:
        return task["componentRef"]["name"] in self.dags

    def tasks(self) -> dict[str, dict[str, Any]]:
        """Tasks that run a container, by display name."""
        return {task["taskInfo"]["name"]: task for _, _, task in self._tasks() if not self._is_dag(task)}

    def executor(self, name: str) -> str:
        """The key of the task's container among the executors."""
        return self.component(name)["executorLabel"]

    def component(self, name: str) -> dict[str, Any]:
        return self.ir["components"][self.tasks()[name]["componentRef"]["name"]]

    def edges(self) -> set[tuple[str, str]]:
        """Maker and reader of every artifact, by display name."""
        found = set()
        for dag, _, task in self._tasks():
            if not self._is_dag(task):
                for source in task.get("inputs", {}).get("artifacts", {}).values():
                    found.add((self._maker(dag, source), task["taskInfo"]["name"]))
        return found

    def _maker(self, dag: str, source: dict[str, Any]) -> str:
        if "componentInputArtifact" in source:
            above, task = self.parents[dag]
            return self._maker(above, task["inputs"]["artifacts"][source["componentInputArtifact"]])
        output = source["taskOutputArtifact"]
        return self._made_by(dag, output["producerTask"], output["outputArtifactKey"])

    def _made_by(self, dag: str, name: str, key: str) -> str:
        task = self.dags[dag]["tasks"][name]
        if not self._is_dag(task):
            return str(task["taskInfo"]["name"])
        inner = task["componentRef"]["name"]
        (selector,) = self.dags[inner]["outputs"]["artifacts"][key]["artifactSelectors"]
        return self._made_by(inner, selector["producerSubtask"], selector["outputArtifactKey"])

    def loop_of(self, name: str) -> list[Any]:
        """What the task's fan-out goes over."""
        (dag,) = (dag for dag, _, task in self._tasks() if task["taskInfo"]["name"] == name)
        _, loop = self.parents[dag]
        return list(yaml.safe_load(loop["parameterIterator"]["items"]["raw"]))
