"""A run is started on a server that speaks KFP's API as far as a submission needs it."""

from __future__ import annotations

import socket

import pytest
import yaml
from listening import listening
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from components.submit import submit
from eclipse.errors import ConfigError, EclipseError

IR = "pipelineInfo: {name: p}\nschemaVersion: 2.1.0\nroot: {}\n"


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "pipeline.yaml").write_text(IR)
    return tmp_path / "pipeline.yaml"


@pytest.fixture
def kfp():
    """What the server does (``state``, ``several``, ``refuses``) and was asked (``asked``)."""
    server = {"state": "SUCCEEDED", "several": False, "refuses": False, "asked": []}

    async def healthz(request):
        return JSONResponse({"multi_user": server["several"]})

    async def experiments(request):
        if request.method == "GET":
            return JSONResponse({"experiments": []})
        server["asked"].append(("experiment", await request.json()))
        return JSONResponse({"experiment_id": "e1", "display_name": "eclipse-priors"})

    async def runs(request):
        server["asked"].append(("run", await request.json()))
        if server["refuses"]:
            return JSONResponse({"error": "no"}, status_code=403)
        return JSONResponse({"run_id": "r1", "experiment_id": "e1", "display_name": "p", "state": "PENDING"})

    async def run(request):
        return JSONResponse({"run_id": "r1", "state": server["state"]})

    at = "/apis/v2beta1"
    routes = [
        Route(f"{at}/healthz", healthz),
        Route(f"{at}/experiments", experiments, methods=["GET", "POST"]),
        Route(f"{at}/runs", runs, methods=["POST"]),
        Route(f"{at}/runs/r1", run),
    ]
    with listening(Starlette(routes=routes)) as port:
        yield server | {"host": f"http://127.0.0.1:{port}"}, server


def asked(server, what):
    return next(body for kind, body in server["asked"] if kind == what)


@pytest.mark.parametrize(("several", "namespace"), [(False, None), (True, "eclipse")])
def test_a_run_of_the_compiled_file_is_started(kfp, file, capsys, several, namespace):
    told, server = kfp
    server["several"] = several
    assert submit(file, host=told["host"], namespace="eclipse", service_account="runner", wait=True)
    assert capsys.readouterr().out.splitlines()[-1] == "run r1: SUCCEEDED"
    sent = asked(server, "run")
    assert sent["pipeline_spec"] == yaml.safe_load(IR) and sent["service_account"] == "runner"
    assert asked(server, "experiment").get("namespace") == (namespace or "")


def test_a_failed_run_and_a_refusal_are_one_line(kfp, file, capsys):
    told, server = kfp
    server["state"] = "FAILED"
    assert not submit(file, host=told["host"], namespace="eclipse", service_account=None, wait=True)
    assert "run r1: FAILED; its task report-run says what failed" in capsys.readouterr().out
    server["refuses"] = True
    with pytest.raises(EclipseError, match=r"the server refused \(\(403\)"):
        submit(file, host=told["host"], namespace="eclipse", service_account=None, wait=False)


def test_no_server_and_none_that_answers(file):
    with pytest.raises(ConfigError, match=r"--host: no server .* set KFP_ENDPOINT"):
        submit(file, host=None, namespace="eclipse", service_account=None, wait=False)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(EclipseError, match=rf"{host}: no answer"):
            submit(file, host=host, namespace="eclipse", service_account=None, wait=False)
