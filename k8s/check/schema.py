"""Each object against the schema of its kind, unknown keys being failures.

Core kinds: kubernetes-validate, strict. Trainer, JobSet and Katib: the Kubeflow SDK's models, which drop what they do
not know, so that an object which does not come back as it was is wrong. Other custom kinds: the files in ``schemas/``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from k8s.check.rendered import Object, Problem, Rendered, dig, label

RULE = "schema"
TARGET = "1.34"
"""Version of the API server."""
SCHEMAS = Path(__file__).parent / "schemas"
_TRAINER = "trainer.kubeflow.org/v1alpha1"
_MODELS = {
    f"{_TRAINER} TrainJob": "kubeflow_trainer_api.models:TrainerV1alpha1TrainJob",
    f"{_TRAINER} TrainingRuntime": "kubeflow_trainer_api.models:TrainerV1alpha1TrainingRuntime",
    f"{_TRAINER} ClusterTrainingRuntime": "kubeflow_trainer_api.models:TrainerV1alpha1ClusterTrainingRuntime",
    "jobset.x-k8s.io/v1alpha2 JobSet": "kubeflow_trainer_api.models:JobsetV1alpha2JobSet",
    "kubeflow.org/v1beta1 Experiment": "kubeflow_katib_api.models:V1beta1Experiment",
}
_METADATA = {"name", "generateName", "namespace", "labels", "annotations", "finalizers"}


def schema(rendered: Rendered) -> Iterator[Problem]:
    """What the API server's decoding would refuse."""
    for thing in rendered.objects:
        for text in _remembered(json.dumps(thing, sort_keys=True, default=str)):
            yield Problem(RULE, label(thing), text)


@cache
def _remembered(text: str) -> tuple[str, ...]:
    """Faults of an object as JSON: the overlays share most objects, and a schema takes long to load."""
    return tuple(faults(json.loads(text)))


def faults(thing: Object) -> Iterator[str]:
    """What is wrong with one object, as texts that name the field."""
    kind = kind_of(thing)
    if kind in _MODELS:
        yield from _by_model(thing, _MODELS[kind])
        for job in _embedded_jobs(thing):
            yield from faults(job)
    elif kind in _custom():
        yield from _messages(_custom()[kind], thing)
    else:
        yield from _by_kubernetes(thing)
    for key in sorted(set(thing["metadata"]) - _METADATA):
        yield f"metadata.{key}: not for a manifest to set"


def kind_of(thing: Object) -> str:
    """``group/version Kind``."""
    return f"{thing['apiVersion']} {thing['kind']}"


def _by_kubernetes(thing: Object) -> Iterator[str]:
    try:
        kubernetes_validate.validate(thing, TARGET, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        yield f"{kind_of(thing)} is no kind of Kubernetes {TARGET}, and has no schema in k8s/check/schemas"
    except kubernetes_validate.ValidationError as error:
        yield _message(error)


def _message(error: jsonschema.ValidationError) -> str:
    """The deepest reason: of a union, why its likeliest branch does not fit."""
    best = jsonschema.exceptions.best_match([error]) or error
    where = ".".join(str(part) for part in best.absolute_path) or "object"
    return f"{where}: {best.message[:300]}"


def _messages(closed: Object, thing: Object) -> Iterator[str]:
    for error in jsonschema.Draft202012Validator(closed).iter_errors(thing):
        yield _message(error)


def _by_model(thing: Object, target: str) -> Iterator[str]:
    from importlib import import_module

    import pydantic

    module, _, name = target.partition(":")
    model = getattr(import_module(module), name)
    try:
        back = model.from_dict(thing).to_dict()
    except pydantic.ValidationError as error:
        for each in error.errors():
            yield f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}"
        return
    except (TypeError, ValueError, AttributeError) as error:
        yield f"{name}: {error}"
        return
    yield from differences(thing, back)


def differences(given: Any, back: Any, path: str = "") -> Iterator[str]:
    """Where a model did not give back what it was given: keys that it does not know, values that it changed."""
    if isinstance(given, dict) and isinstance(back, dict):
        for key in given:
            inner = f"{path}.{key}" if path else str(key)
            if key not in back and given[key] is not None:
                yield f"{inner}: unknown key"
            elif key in back:
                yield from differences(given[key], back[key], inner)
    elif isinstance(given, list) and isinstance(back, list) and len(given) == len(back):
        for at, (one, other) in enumerate(zip(given, back, strict=True)):
            yield from differences(one, other, f"{path}[{at}]")
    elif given != back:
        yield f"{path}: {given!r} would become {back!r}"


def _embedded_jobs(thing: Object) -> Iterator[Object]:
    """The Jobs inside a training runtime or a JobSet, as objects of their own: the models take any string there."""
    spec = dig(thing, "spec", default={})
    for job in dig(spec, "template", "spec", "replicatedJobs", default=spec.get("replicatedJobs") or []):
        name = f"{label(thing)} {job.get('name')}"
        metadata = {**dig(job, "template", "metadata", default={}), "name": name}
        yield {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": dig(job, "template", "spec")}


@lru_cache
def _custom() -> dict[str, Object]:
    """``group/version Kind`` → its whole schema, of all files in ``schemas/``."""
    found = {}
    for path in sorted(SCHEMAS.glob("*.yaml")):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        for kind, fields in document["kinds"].items():
            found[kind] = _whole(fields, document["$defs"])
    return found


def _whole(fields: Object, defs: Object) -> Object:
    properties = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        **{key: value for key, value in fields.items() if key != "required"},
    }
    whole = {"type": "object", "required": fields.get("required", []), "properties": properties}
    return {"$defs": _closed(defs), **_closed(whole)}


def _closed(value: Any) -> Any:
    """The schema with ``additionalProperties: false`` wherever it lists properties; metadata stays open."""
    if isinstance(value, list):
        return [_closed(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    closed = {key: _closed(inner) for key, inner in value.items()}
    if isinstance(value.get("properties"), dict) and "type" in value:
        closed["additionalProperties"] = False
    return closed
