"""Errors in OpenAI's shape, for every answer that is no success; what went wrong inside stays in the log."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from eclipse.serve.types import GivenUpError, JobTooLargeError, RefusedError, UnknownModelError

log = logging.getLogger(__name__)

CODES = {
    400: "invalid_value",
    401: "invalid_api_key",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    415: "unsupported_media_type",
    429: "rate_limit_exceeded",
    500: "server_error",
    503: "unavailable",
    504: "timeout",
}
"""The ``code`` of an error whose status says all."""

_INAPPLICABLE = frozenset(
    {"complexity", "frame_count", "frame_duration_ms", "input_fidelity", "markup", "mask", "style", "svg"}
)
_UNION = re.compile(r"(constrained-)?str|list\[.*")
_MOST_FAULTS = 3


class ApiError(HTTPException):
    """An answer other than success: ``message`` says what to change, ``param`` names the field at fault."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers)
        self.param = param
        self.code = code or CODES.get(status, "error")

    def body(self) -> dict[str, Any]:
        """What the client reads, as OpenAI's client expects it."""
        return error_body(self.status_code, str(self.detail), self.param, self.code)


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """``{"error": {"message", "type", "param", "code"}}``."""
    kind = "rate_limit_error" if status == 429 else "server_error" if status >= 500 else "invalid_request_error"
    code = code or CODES.get(status, "error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def as_api_error(error: Exception) -> ApiError:
    """What a client is told of a failure of the engine's; anything else is a 500 without detail, told in the log."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, RefusedError):
        wait = {"Retry-After": str(max(1, math.ceil(error.retry_after)))}
        return ApiError(429, str(error), headers=wait)
    if isinstance(error, JobTooLargeError):
        return ApiError(400, str(error), code="job_too_large")
    if isinstance(error, UnknownModelError):
        return ApiError(404, str(error), param="model", code="model_not_found")
    if isinstance(error, GivenUpError):
        return _given_up(error)
    log.error("a request failed", exc_info=error)
    return ApiError(500, "the server failed on this request; its log says why")


def install(app: FastAPI) -> None:
    """Give every error of ``app`` this shape."""
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    for kind in (RefusedError, JobTooLargeError, UnknownModelError, GivenUpError, Exception):
        app.add_exception_handler(kind, _on_failure)


def invalid(faults: Sequence[Any]) -> ApiError:
    """The 400 of what pydantic found wrong; the first fault names ``param``."""
    faults = _closest(faults)
    told = [_told(fault) for fault in faults]
    more = f" (and {len(told) - _MOST_FAULTS} more)" if len(told) > _MOST_FAULTS else ""
    where = _where(faults[0]) or None
    code = "unknown_parameter" if faults[0]["type"] == "extra_forbidden" else CODES[400]
    return ApiError(400, "; ".join(told[:_MOST_FAULTS]) + more, param=where, code=code)


def _closest(faults: Sequence[Any]) -> list[Any]:
    """One fault a field: of a union's alternatives the first whose type was right, which says what is wrong in it."""
    fields: dict[str, Any] = {}
    for fault in faults:
        where = _where(fault)
        if where not in fields or (_is_of_type(fields[where]) and not _is_of_type(fault)):
            fields[where] = fault
    return list(fields.values())


def _is_of_type(fault: Any) -> bool:
    return str(fault["type"]).endswith("_type")


def _given_up(error: GivenUpError) -> ApiError:
    if error.stopping:
        return ApiError(503, "the server is stopping", headers={"Retry-After": "5"})
    # OpenAI's client would otherwise ask for the same work again, twice.
    return ApiError(504, f"{error}; ask for fewer pictures or steps", headers={"x-should-retry": "false"})


def _told(fault: Any) -> str:
    where = _where(fault)
    if fault["type"] == "extra_forbidden":
        known = where in _INAPPLICABLE
        return f"{where}: {'cannot be honoured here' if known else 'is not a parameter of this call'}; leave it out"
    if fault["type"] == "json_invalid":
        return f"the body is not JSON ({fault['ctx']['error']})"
    if fault["type"] in ("string_too_short", "too_short") and fault.get("input") in ("", []):
        return f"{where}: is empty"
    message = str(fault["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else f"the body: {message}"


def _where(fault: Any) -> str:
    """The field's name in the request; pydantic also names the alternative of a union that was tried."""
    if fault["type"] == "json_invalid":
        return ""
    parts = [str(part) for part in fault["loc"] if part not in ("body", "query", "path")]
    return ".".join(part for part in parts if not _UNION.fullmatch(part))


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    told = error if isinstance(error, ApiError) else ApiError(error.status_code, _plain(request, error))
    return JSONResponse(told.body(), told.status_code, headers=dict(error.headers or {}))


def _plain(request: Request, error: HTTPException) -> str:
    if error.status_code == 404:
        return "there is nothing here; /openapi.json lists what there is"
    if error.status_code == 405:
        return f"{request.method} is not possible here"
    return str(error.detail)


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    told = invalid(error.errors())
    return JSONResponse(told.body(), told.status_code)


async def _on_failure(request: Request, error: Exception) -> JSONResponse:
    told = as_api_error(error)
    return JSONResponse(told.body(), told.status_code, headers=dict(told.headers or {}))
