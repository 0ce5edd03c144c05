import pytest

from eclipse.errors import DataError, EclipseError
from eclipse.tracking.client import connect, one_line_errors, tracking_uri


def test_the_store_is_the_one_of_the_environment(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert tracking_uri() == "http://127.0.0.1:9"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert tracking_uri() == "sqlite:///mlflow.db"


def test_a_server_that_does_not_answer_is_one_line():
    with pytest.raises(EclipseError, match=r"http://127\.0\.0\.1:9: no MLflow server answers") as caught:
        connect("http://127.0.0.1:9")
    assert "\n" not in str(caught.value)


def test_what_mlflow_refuses_is_one_line_and_other_errors_stay_what_they_are():
    from mlflow.exceptions import MlflowException

    with pytest.raises(EclipseError, match=r"^sqlite:///x\.db: MLflow refused \(no such thing\)") as caught, \
            one_line_errors("sqlite:///x.db"):  # fmt: skip
        raise MlflowException("no such thing\nand a trace")
    assert "trace" not in str(caught.value)
    with pytest.raises(DataError), one_line_errors("sqlite:///x.db"):
        raise DataError("a file")
    with pytest.raises(KeyError), one_line_errors("sqlite:///x.db"):
        raise KeyError("a mistake")
