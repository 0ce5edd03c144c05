import pytest

import made_sweep
from eclipse.config import load_params
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
