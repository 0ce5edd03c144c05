"""Shared set-up: one torch thread (two crawl under load), no deadlines on a busy machine, and nothing phones home."""

import os

os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import dvc  # noqa: F401 - its log goes to the standard output of the first import, which must not be one test's
import hypothesis
import pytest
import torch

hypothesis.settings.register_profile("project", deadline=None)
hypothesis.settings.load_profile("project")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    """Files with slow tests first: no process shall be left with one of them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Under `pytest -n`, a file's tests stay together, and so do those of flows/, which share one Prefect server."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return "flows" if nodeid.startswith("tests/flows/") else nodeid.partition("::")[0]

    config.option.loadscopereorder = False  # it would put files with many tests first
    return ByFile(config, log)
