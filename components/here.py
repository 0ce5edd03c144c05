"""The pipeline run on this machine by KFP's local runner: each task a process, in this Python environment."""

from __future__ import annotations

import os
import re
import sys
import warnings
from pathlib import Path

from components.record import ROOT
from components.runs import SHARED
from eclipse.config import Params

_QUIET = {"DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
_COLOURS = re.compile(r"\x1b\[\d+m")


def run(params: Params, space: Path) -> int:
    """Run the pipeline of ``params`` with all its results below ``space``; 0, or 1 where a task failed.

    What an earlier run below ``space`` made of the same inputs is taken from there. Registered is where
    MLFLOW_TRACKING_URI says, else in mlflow.db below ``space``, as are the releases.
    """
    from kfp import local

    from components.pipeline import build

    space = space.absolute()
    space.mkdir(parents=True, exist_ok=True)
    os.environ[SHARED] = str(space)
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{space / 'mlflow.db'}")
    os.environ.setdefault("ECLIPSE_RELEASES", str(space / "releases"))
    os.chdir(ROOT)  # tasks are started here, where `python -m` finds this package
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(space / "runs-of-kfp"))
    pipeline = build(params, at_once=_at_once())
    with warnings.catch_warnings():
        # The image is not used here, and names are shown by KFP's page only.
        warnings.filterwarnings("ignore", category=RuntimeWarning, module="kfp.local")
        warnings.filterwarnings("ignore", message=".*have no effect in the current local runner.*")
        try:
            pipeline()
        except RuntimeError as error:
            print(f"error: {_COLOURS.sub('', str(error))}", file=sys.stderr)
            return 1
    return 0


def _at_once() -> int:
    """Tasks of a fan-out that the cores can hold: one, unless OMP_NUM_THREADS leaves some of them free."""
    cores = os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("OMP_NUM_THREADS") or cores))
