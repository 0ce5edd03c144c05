"""The OpenAPI document is true: generated requests never break the server, and answers are what it says."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import positive_data_acceptance

from eclipse.serve.app import create_app

CALLS = {
    ("POST", "/v1/images/generations"),
    ("POST", "/v1/images/edits"),
    ("POST", "/v1/embeddings/prior"),
    ("POST", "/v1/interpolate"),
    ("GET", "/v1/images/files/{name}.png"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model}"),
    ("GET", "/v1/limits"),
}


@pytest.fixture(scope="module")
def schema(serving):
    return schemathesis.openapi.from_asgi("/openapi.json", create_app(serving))


def test_all_calls_are_tried(schema):
    assert {(found.ok().method.upper(), found.ok().path) for found in schema.get_all_operations()} == CALLS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [
        (method, path, mode)
        for method, path in sorted(CALLS)
        for mode in GenerationMode
        if method == "POST" or "{" in path or mode.is_positive  # nothing can be wrong where nothing is given
    ],
)
def test_generated_requests(schema, method, path, mode):
    operation = schema[path][method]

    @settings(max_examples=12, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case):
        # What only models know (tokens of a prompt, words of it, pictures) no schema can say: such requests are a 400.
        excluded = [positive_data_acceptance]
        answer = case.call()
        if answer.status_code == 500:
            # The random decoder here does draw such pictures, which are withheld.
            assert answer.json()["error"]["code"] == "degenerate_image"
            excluded.append(not_a_server_error)
        case.validate_response(answer, excluded_checks=excluded)

    run()


def test_limits_of_the_parameters_are_in_it(client):
    document = client.get("/openapi.json").json()
    asked = document["components"]["schemas"]["Generation"]["properties"]
    assert asked["n"]["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 10}
    assert asked["steps"]["anyOf"][0]["maximum"] == 50
    assert asked["size"]["anyOf"][0]["pattern"] == "^(auto|64x64)$"
    text, several = asked["prompt"]["anyOf"]
    assert text["maxLength"] == several["items"]["maxLength"] == 1000 and several["maxItems"] == 10
    edit = document["paths"]["/v1/images/edits"]["post"]["requestBody"]["content"]
    for kind in ("application/json", "multipart/form-data"):
        assert edit[kind]["schema"]["properties"]["n"]["anyOf"][0]["maximum"] == 10


def test_every_call_tells_its_errors_and_none_is_a_422(client):
    document = client.get("/openapi.json").json()
    for path, calls in document["paths"].items():
        for call in calls.values():
            assert "422" not in call["responses"]
            for status, answer in call["responses"].items():
                if status != "200":
                    assert answer["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorAnswer"), (
                        path,
                        status,
                    )
    assert "Retry-After" in document["paths"]["/v1/images/generations"]["post"]["responses"]["429"]["headers"]
    assert "HTTPValidationError" not in document["components"]["schemas"]
