"""The registry behind a real ``mlflow server`` on loopback."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from made_selected import make_selected

from eclipse.errors import EclipseError
from eclipse.files import tree_digest
from eclipse.tracking.register import register
from eclipse.tracking.registry import Registry


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Yields its address and a function that stops it."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
               "--backend-store-uri", f"sqlite:///{folder / 'server.db'}",
               "--artifacts-destination", str(folder / "artifacts")]  # fmt: skip
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"} | quiet
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)

    def stop():
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    uri = f"http://127.0.0.1:{port}"
    try:
        _wait(f"{uri}/health", process, folder / "log")
        yield uri, stop
    finally:
        stop()


def _wait(url, process, log):
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())


@pytest.mark.slow
def test_a_version_goes_to_a_server_and_comes_back(server, tmp_path, monkeypatch):
    import mlflow
    import pandas as pd

    uri, stop = server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    given = {**make_selected(tmp_path), "decoder": "mini", "experiment": "sweep", "params": {"a": {"b": 1}}}
    registry = Registry()
    version, new = register(registry, **given)
    assert registry.uri == uri and new and version.aliases == ("candidate",)
    assert register(registry, **given) == (version, False)
    stored = registry.client.get_model_version(version.name, version.version)
    logged = registry.client.get_logged_model(stored.source.removeprefix("models:/"))
    assert {metric.key for metric in logged.metrics} >= {"test_held_out/composition.low"}
    model = mlflow.pyfunc.load_model(f"models:/{version.name}@candidate")
    assert model.predict(pd.DataFrame({"prompt": ["a red star"]})).shape == (1, 96)
    assert tree_digest(registry.download(version, tmp_path / "got")) == tree_digest(given["selected"])

    (tmp_path / "sheet.html").write_text("<html>")
    registry.add_artifact(version, tmp_path / "sheet.html", "review")
    assert registry.artifact(version, "review/sheet.html", tmp_path / "back").read_text() == "<html>"
    assert registry.artifact(version, "review/sheet.png", tmp_path / "back") is None
    registry.tag(version, "eclipse.review.by", "A reviewer")
    registry.set_alias(version.name, "champion", version.version)
    registry.delete_alias(version.name, "candidate")
    found = registry.by_alias(version.name, "champion")
    assert found.aliases == ("champion",) and found.tags["eclipse.review.by"] == "A reviewer"
    with pytest.raises(EclipseError, match="MLflow refused") as caught:
        registry.set_alias("eclipse-prior-none", "champion", "1")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("mlflow.db")) and not list(tmp_path.glob("mlruns"))

    stop()
    shutil.rmtree(tmp_path / "got")
    with pytest.raises(EclipseError, match=rf"{uri}: no MLflow server answers"):
        Registry()
