"""The flow is thin: the right commands in the right order, streamed, and a failure is a failure."""

from __future__ import annotations

import logging
import sys

import pytest
import yaml

from closure import ROOT
from flows import train_prior as module


@pytest.fixture
def lines(monkeypatch):
    """What the flow's logger was given."""
    found: list[str] = []
    logger = logging.getLogger("test_train_prior")
    logger.setLevel(logging.INFO)
    monkeypatch.setattr(logger, "handle", lambda record: found.append(record.getMessage()))
    monkeypatch.setattr(module, "get_run_logger", lambda: logger)
    return found


def test_output_is_streamed(lines):
    module.stream([sys.executable, "-c", "import sys; print('one'); print('two', file=sys.stderr)"])
    assert sorted(lines) == ["one", "two"]


def test_a_failure_names_the_command_and_its_status(lines):
    with pytest.raises(RuntimeError, match="exit status 3"):
        module.stream([sys.executable, "-c", "raise SystemExit(3)"])


def test_reproduces_then_tracks(monkeypatch):
    commands = []
    monkeypatch.setattr(module, "stream", commands.append)
    monkeypatch.setattr(module, "reproduce", module.reproduce.fn)
    monkeypatch.setattr(module, "track", module.track.fn)
    module.train_prior.fn(["select"])
    assert [command[1:] for command in commands] == [["-m", "dvc", "repro", "select"], ["-m", *TRACK]]
    assert all(command[0] == sys.executable for command in commands)


TRACK = ["eclipse", "track", "--quiet"]


def test_the_deployment_points_at_the_flow():
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert [item["name"] for item in deployments] == ["mini"]
    path, _, function = deployments[0]["entrypoint"].partition(":")
    assert (ROOT / path).is_file()
    assert getattr(module, function).name == "train-prior"
