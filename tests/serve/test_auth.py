"""The bearer token."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from eclipse.serve.app import create_app
from eclipse.serve.auth import VARIABLE, api_key

CALLS = [("GET", "/v1/models"), ("GET", "/v1/limits"), ("POST", "/v1/images/generations"), ("GET", "/v1/nothing")]


@pytest.fixture(scope="module")
def guarded(serving):
    return TestClient(create_app(serving, key="s3cret"), raise_server_exceptions=False)


@pytest.mark.parametrize(
    "given", [None, "Bearer wrong", "Bearer ", "s3cret", "Basic s3cret", "Bearer s3cret2", "Bearer s3cré"]
)
@pytest.mark.parametrize(("method", "path"), CALLS)
def test_calls_need_it(guarded, method, path, given):
    headers = {} if given is None else {"Authorization": given.encode("latin-1")}
    answer = guarded.request(method, path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] == "invalid_api_key" and "s3cret" not in answer.text


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_with_it_they_work(guarded, scheme):
    assert guarded.get("/v1/models", headers={"Authorization": f"{scheme} s3cret"}).status_code == 200


def test_page_figures_document_and_pictures_by_url_stay_open(guarded):
    for path in ("/", "/metrics", "/openapi.json"):
        assert guarded.get(path).status_code == 200
    key = {"Authorization": "Bearer s3cret"}
    answer = guarded.post("/v1/images/generations", json={"prompt": "a star", "response_format": "url"}, headers=key)
    assert guarded.get(answer.json()["data"][0]["url"]).status_code == 200


def test_the_document_says_so_only_where_it_is_so(guarded, client):
    for http, needed in ((guarded, True), (client, False)):
        call = http.get("/openapi.json").json()["paths"]["/v1/models"]["get"]
        assert ("security" in call, "401" in call["responses"]) == (needed, needed)


def test_the_key_is_the_variables(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert api_key() is None
    monkeypatch.setenv(VARIABLE, "")
    assert api_key() is None
    monkeypatch.setenv(VARIABLE, "x")
    assert api_key() == "x"
