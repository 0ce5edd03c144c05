"""The small platform of small.yaml, and changes of it."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s.check.checks import problems
from k8s.check.rendered import OVERLAYS, ROOT, Problem, Rendered, render

HERE = Path(__file__).parent
RENDERED = ("test_overlays.py", "test_preflight.py", "test_serving.py")
"""Files whose tests render overlays, or ask a server, by kubectl."""


def pytest_collection_modifyitems(items):
    if shutil.which("kubectl") is None:
        for item in items:
            if item.path.is_relative_to(HERE) and item.path.name in RENDERED:
                item.add_marker(pytest.mark.skip(reason="kubectl is not installed"))


@pytest.fixture(scope="session")
def objects() -> list[dict[str, Any]]:
    return yaml.safe_load((HERE / "small.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def small(objects) -> list[dict[str, Any]]:
    return copy.deepcopy(objects)


@pytest.fixture(scope="session")
def overlays() -> dict[str, Rendered]:
    return {name: render(ROOT / name) for name in OVERLAYS}


def one(things: list[dict[str, Any]], kind: str, name: str | None = None) -> dict[str, Any]:
    """The one object of that kind (and name)."""
    (found,) = [each for each in things if each["kind"] == kind and name in {None, each["metadata"]["name"]}]
    return found


def put(thing: Any, path: str, value: Any) -> None:
    """Set what a path such as ``spec.template.spec.containers.0.image`` names; None removes it."""
    *way, last = [int(part) if part.isdigit() else part.replace("|", ".") for part in path.split(".")]
    for part in way:
        thing = thing[part] if isinstance(part, int) else thing.setdefault(part, {})
    if value is None:
        del thing[last]
    else:
        thing[last] = value


@pytest.fixture
def changed(small) -> Callable[[str, str, Any], list[Problem]]:
    """What is wrong once ``Kind[/name]``'s ``path`` is ``value``."""

    def change(which: str, path: str, value: Any) -> list[Problem]:
        kind, _, name = which.partition("/")
        put(one(small, kind, name or None), path, value)
        return problems(Rendered(small, "small"))

    return change
