"""The body of an edit: a form with files, as OpenAI's client sends it, or JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile

from eclipse.serve import pictures
from eclipse.serve.errors import ApiError, invalid
from eclipse.serve.schema import Edit, EditForm
from eclipse.serve.wishes import SubjectBytes

FORM, JSON = "multipart/form-data", "application/json"

_FILES = ("image", "edges")
_LISTS = ("image", "noun")
_MOST_PARTS = 64


@dataclass(frozen=True)
class EditBody:
    """An edit as it was sent, its pictures as bytes."""

    asked: Edit | EditForm
    subjects: list[SubjectBytes]
    edges: bytes | None


async def read_edit(request: Request) -> EditBody:
    """The body in either form; :class:`ApiError` 400 for a field that is wrong, 415 for another media type."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == JSON:
        return _from_json(await request.body())
    if kind == FORM:
        async with request.form(max_files=_MOST_PARTS, max_fields=_MOST_PARTS) as form:
            return await _from_form(form)
    raise ApiError(415, f"Content-Type: send {FORM} or {JSON}")


def document() -> dict[str, Any]:
    """Both media types for the OpenAPI document."""
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    form = EditForm.model_json_schema(ref_template="#/components/schemas/{model}")
    form["properties"] |= {
        "image": {"type": "array", "items": file, "description": "PNG, JPEG or WebP files"},
        "edges": file | {"description": "a picture whose edges, or an edge map whose lines, the result follows"},
    }
    return {FORM: {"schema": form}, JSON: {"schema": _inlined(Edit)}}


def _inlined(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of ``model`` without references, which would need a place of their own in the document."""
    schema = model.model_json_schema()
    parts = schema.pop("$defs", {})

    def resolved(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return resolved(parts[value["$ref"].rpartition("/")[2]])
            return {key: resolved(inner) for key, inner in value.items()}
        return [resolved(inner) for inner in value] if isinstance(value, list) else value

    inlined: dict[str, Any] = resolved(schema)
    return inlined


def _from_json(body: bytes) -> EditBody:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is not JSON ({error})") from None
    asked: Edit = _checked(Edit, value, strict=None)
    subjects = [
        SubjectBytes(subject.noun, pictures.from_text(subject.image, f"subjects.{i}.image"), f"subjects.{i}.image")
        for i, subject in enumerate(asked.subjects)
    ]
    edges = None if asked.edges is None else pictures.from_text(asked.edges, "edges")
    return EditBody(asked, subjects, edges)


async def _from_form(form: FormData) -> EditBody:
    fields: dict[str, Any] = {}
    files: dict[str, list[bytes]] = {"image": [], "edges": []}
    for key, value in form.multi_items():
        name = key.removesuffix("[]")
        if isinstance(value, UploadFile):
            if name not in _FILES:
                raise ApiError(400, f"{key}: takes no file; send image and edges as files", param=key)
            files[name].append(await value.read())
        elif name in _FILES:
            raise ApiError(400, f"{key}: has to be a file; no URL or path is ever opened", param=key)
        elif name in _LISTS:
            fields.setdefault(name, []).append(value)
        elif key in fields:
            raise ApiError(400, f"{key}: is given twice", param=key)
        else:
            fields[key] = value
    asked: EditForm = _checked(EditForm, fields, strict=False)
    return EditBody(asked, _paired(asked.noun, files["image"]), _single(files["edges"]))


def _paired(nouns: list[str], images: list[bytes]) -> list[SubjectBytes]:
    if len(nouns) != len(images):
        raise ApiError(
            400,
            f"noun: {len(nouns)} for {len(images)} image files; give each the word of the prompt that it stands for, "
            "in the same order",
            param="noun",
        )
    pairs = enumerate(zip(nouns, images, strict=True))
    return [SubjectBytes(noun, image, f"image.{i}") for i, (noun, image) in pairs]


def _single(edges: list[bytes]) -> bytes | None:
    if len(edges) > 1:
        raise ApiError(400, "edges: is given twice", param="edges")
    return edges[0] if edges else None


def _checked(model: type[Any], value: Any, *, strict: bool | None) -> Any:
    if not isinstance(value, Mapping):
        raise ApiError(400, "the body: has to be a JSON object")
    try:
        return model.model_validate(value, strict=strict)
    except ValidationError as error:
        raise invalid(error.errors()) from None
