import shutil

import pytest

from eclipse.tracking.registry import Registry


@pytest.fixture(scope="session")
def _empty_store(tmp_path_factory):
    """An MLflow store that holds nothing: making one takes seconds, copying it does not."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    Registry(f"sqlite:///{path}").names()
    return path


@pytest.fixture
def store(_empty_store, tmp_path, monkeypatch):
    """The address of an empty store in a folder of the test, where everything looks for it."""
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(_empty_store, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


@pytest.fixture
def registry(store):
    return Registry(store)
