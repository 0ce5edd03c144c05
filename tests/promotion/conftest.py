import pytest
from made_reviews import make_version
from promotion_world import open_world

from eclipse.tracking.registry import Registry


@pytest.fixture(scope="session")
def three_versions(tmp_path_factory):
    """A folder with an MLflow store: making one takes long, copying its database does not."""
    folder = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        registry = Registry(f"sqlite:///{folder / 'mlflow.db'}")
        for number in range(3):
            make_version(registry, folder / f"made-{number}", number)
    return folder


@pytest.fixture(scope="session")
def _first_promoted(three_versions, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        world = open_world(three_versions, tmp_path_factory.mktemp("first"), patch)
        world.review(1)
        world.promote(1)
    return world.folder


@pytest.fixture(scope="session")
def _second_promoted(_first_promoted, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        world = open_world(_first_promoted, tmp_path_factory.mktemp("second"), patch)
        world.review(2, champion=1)
        world.promote(2)
    return world.folder


@pytest.fixture
def world(three_versions, tmp_path, monkeypatch):
    return open_world(three_versions, tmp_path, monkeypatch)


@pytest.fixture
def first(_first_promoted, tmp_path, monkeypatch):
    """A world whose version 1 is the champion."""
    return open_world(_first_promoted, tmp_path, monkeypatch)


@pytest.fixture
def promoted(_second_promoted, tmp_path, monkeypatch):
    """A world whose version 2 is the champion, and 1 the previous."""
    return open_world(_second_promoted, tmp_path, monkeypatch)
