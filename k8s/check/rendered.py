"""What kustomize renders, as objects that can be looked up by kind and name."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from eclipse.errors import EclipseError

Object = dict[str, Any]
"""One Kubernetes object, as YAML gives it."""

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""
OVERLAYS = ("k8s/overlays/local", "k8s/overlays/gpu")
NAMESPACE = "eclipse"


class ManifestError(EclipseError):
    """Something that cannot be rendered or read."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: the rule that says so, the object, and what to change."""

    rule: str
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text} [{self.rule}]"


@dataclass(frozen=True)
class Rendered:
    """All objects of one kustomization."""

    objects: list[Object]
    source: str = ""
    _index: dict[tuple[str, str], Object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._index.update({(each["kind"], name_of(each)): each for each in self.objects})

    def find(self, kind: str, name: str) -> Object | None:
        """The object of that kind and name, or None."""
        return self._index.get((kind, name))

    def of(self, *kinds: str) -> Iterator[Object]:
        """All objects of these kinds, in rendered order."""
        return (each for each in self.objects if each["kind"] in kinds)


def name_of(thing: Object) -> str:
    """An object's name; that of a ``generateName`` is its beginning."""
    metadata = thing.get("metadata") or {}
    return str(metadata.get("name") or metadata.get("generateName") or "")


def label(thing: Object) -> str:
    """``Kind/name``, as kubectl writes it."""
    return f"{thing.get('kind')}/{name_of(thing)}"


def dig(value: Any, *path: str, default: Any = None) -> Any:
    """The value at nested keys, or ``default`` where one is missing or null."""
    for key in path:
        if not isinstance(value, dict) or value.get(key) is None:
            return default
        value = value[key]
    return value


def render(folder: Path) -> Rendered:
    """Run kustomize on one folder. Raises :class:`ManifestError` with its own words where that fails."""
    if not (folder / "kustomization.yaml").is_file():
        raise ManifestError(f"{folder}: no kustomization.yaml; give the folder of an overlay, such as {OVERLAYS[0]}")
    try:
        done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ManifestError("kubectl: not found; install it, its `kubectl kustomize` renders the manifests") from None
    if done.returncode:
        raise ManifestError(f"{folder}: kustomize: {' '.join(done.stderr.split()) or 'failed'}")
    if done.stderr.strip():
        raise ManifestError(f"{folder}: kustomize warns: {' '.join(done.stderr.split())}")
    return read(done.stdout, str(folder))


def render_component(component: Path, base: Path) -> Rendered:
    """Render ``base`` with one kustomize component, as an overlay that only lists the two would."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()
        listed = {"resources": [os.path.relpath(base, folder)], "components": [os.path.relpath(component, folder)]}
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(listed), encoding="utf-8")
        return Rendered(render(folder).objects, f"{base} with {component}")


def read(text: str, source: str) -> Rendered:
    """Objects of a YAML stream. Every one needs an apiVersion, a kind and a name; no two are the same."""
    try:
        objects = [each for each in yaml.load_all(text, Loader=_StrictLoader) if each is not None]
    except yaml.YAMLError as error:
        raise ManifestError(f"{source}: {' '.join(str(error).split())}") from None
    seen: set[tuple[str, ...]] = set()
    for each in objects:
        if not isinstance(each, dict) or not each.get("apiVersion") or not each.get("kind") or not name_of(each):
            raise ManifestError(f"{source}: an object without apiVersion, kind or metadata.name: {str(each)[:80]}")
        key = (each["apiVersion"], each["kind"], str(dig(each, "metadata", "namespace", default="")), name_of(each))
        if key in seen:
            raise ManifestError(f"{source}: {label(each)} is there twice")
        seen.add(key)
    return Rendered(objects, source)


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that is there twice, as the API server's strict decoding does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"key {sorted(twice)[0]!r} twice", node.start_mark)
        return super().construct_mapping(node, deep)
