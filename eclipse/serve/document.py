"""The OpenAPI document: what FastAPI derives, made true where only this server knows better."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from eclipse import __version__
from eclipse.serve.files_store import PATH
from eclipse.serve.serving import Serving

_ABOUT = (
    "Pictures by ECLIPSE and λ-ECLIPSE priors, in the shapes of OpenAI's image API. A seed gives the same picture "
    "whatever else the server does. Beside this API there are a page at `/`, `/livez`, `/readyz` and `/metrics`."
)
_UNUSED = ("HTTPValidationError", "ValidationError")


def install(app: FastAPI, serving: Serving, *, key: bool) -> None:
    """Give ``app`` its document; ``key``: whether callers need an API key."""
    made: dict[str, Any] = {}

    def document() -> dict[str, Any]:
        if not made:
            made.update(_document(app, serving, key=key))
        return made

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI, serving: Serving, *, key: bool) -> dict[str, Any]:
    made = get_openapi(title="ECLIPSE", version=__version__, description=_ABOUT, routes=app.routes)
    for path, operations in made["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)  # a fault of the request is a 400 here, as OpenAI has it
            if not key or path.startswith(PATH):
                operation["responses"].pop("401", None)
            else:
                operation["security"] = [{"key": []}]
    parts = made["components"]
    for name in _UNUSED:
        parts["schemas"].pop(name, None)
    if key:
        parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    bounds = _bounds(serving)
    bodies = [
        content["schema"] for content in made["paths"]["/v1/images/edits"]["post"]["requestBody"]["content"].values()
    ]
    for schema in (*parts["schemas"].values(), *bodies):
        if schema.get("additionalProperties") is False:
            _bind(schema, bounds)
    return made


def _bounds(serving: Serving) -> dict[str, dict[str, Any]]:
    """Field of requests → what its schema says more."""
    params = serving.params
    text = {"maxLength": params.max_prompt_characters}
    return {
        "n": {"maximum": params.max_images},
        "frames": {"maximum": params.max_images},
        "steps": {"maximum": params.max_steps},
        "scheduler": {"enum": list(serving.schedulers)},
        "size": {"pattern": f"^({'|'.join(['auto', *serving.sizes])})$"},
        "negative_prompt": text,
        **dict.fromkeys(("prompt", "from", "to"), text | {"pattern": r"\S"}),
    }


def _bind(schema: dict[str, Any], bounds: dict[str, dict[str, Any]]) -> None:
    for name, more in bounds.items():
        field = schema["properties"].get(name)
        for choice in () if field is None else field.get("anyOf", [field]):
            if choice.get("type") == "array":
                choice["maxItems"] = bounds["n"]["maximum"]
                choice["items"].update(more)
            elif choice.get("type") != "null":
                choice.update(more)
