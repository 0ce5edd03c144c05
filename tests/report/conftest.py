import pytest

import made_sweep
from eclipse.config import load_params
from eclipse.evaluate.summary import collect
from eclipse.stages import report


@pytest.fixture(scope="session")
def params():
    return load_params(made_sweep.ROOT / "params.yaml", ["evaluate.bootstrap=100"])


@pytest.fixture(scope="session")
def paths(tmp_path_factory):
    return made_sweep.make_sweep(tmp_path_factory.mktemp("sweep"), prompts=12, kept=6)


@pytest.fixture(scope="session")
def made(params, paths, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "out"
    study = made_sweep.make_study(out.parent / "study")
    return report.run(params, **paths, study=study, out=out), out


@pytest.fixture(scope="session")
def subject_paths(tmp_path_factory):
    return made_sweep.make_subject_sweep(tmp_path_factory.mktemp("subjects"))


@pytest.fixture(scope="session")
def subject_rows(params, subject_paths):
    folder = subject_paths["subjects"]
    return collect(subject_paths["subject_evaluations"], folder / "evaluate", names=params.subjects.names, count=100)


@pytest.fixture(scope="session")
def made_with_subjects(params, paths, subject_paths, tmp_path_factory):
    """The page's text and its folder."""
    out = tmp_path_factory.mktemp("report") / "subjects"
    report.run(params, **paths, **subject_paths, out=out)
    return (out / "report.html").read_text(), out
