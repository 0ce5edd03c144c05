"""One server's insides for all HTTP tests, in this process: the shipped frozen models with small random priors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from listening import listening
from made_server import make_root

from eclipse.serve.app import create_app
from eclipse.serve.load import load


@pytest.fixture(scope="session")
def served_root(tmp_path_factory):
    return make_root(
        tmp_path_factory.mktemp("served") / "root",
        slots=2,
        prior_batch=2,
        max_pending=200,
        max_body_mb=2,
        max_picture_mp=1,
    )


@pytest.fixture(scope="session")
def serving(served_root):
    made = load(served_root)
    yield made
    made.engine.close(0)


@pytest.fixture(scope="session")
def client(serving) -> TestClient:
    return TestClient(create_app(serving), raise_server_exceptions=False)


@pytest.fixture(scope="session")
def address(serving) -> Iterator[str]:
    """``http://127.0.0.1:PORT`` of a listening server."""
    with listening(create_app(serving)) as port:
        yield f"http://127.0.0.1:{port}"
