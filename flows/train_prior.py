"""The main job as a Prefect flow: one ``dvc repro`` with its output streamed, then the sweep into MLflow.

One task for the whole graph is on purpose: DVC knows what is up to date, and a second scheduler inside would not.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from prefect import flow, get_run_logger, task


@task(retries=1, retry_delay_seconds=10)
def reproduce(targets: Sequence[str] = ()) -> None:
    """Bring the graph, or ``targets`` of it, up to date. A stage that is up to date is not run."""
    stream([sys.executable, "-m", "dvc", "repro", *targets])


@task(retries=2, retry_delay_seconds=[5, 30])
def track() -> None:
    """Log the sweep to MLflow from the files that the stages wrote."""
    stream([sys.executable, "-m", "eclipse", "track", "--quiet"])


def stream(command: Sequence[str]) -> None:
    """Run ``command`` with its output line by line in the flow's log; a status other than 0 raises ``RuntimeError``."""
    logger = get_run_logger()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            logger.info(line.rstrip())
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[1:])}: exit status {process.returncode}; its output is above")


@flow(name="train-prior", log_prints=True)
def train_prior(targets: list[str] | None = None) -> None:
    """Data to report for the parameters in params.yaml, then MLflow. ``targets`` limits it to these DVC stages."""
    reproduce(targets or [])
    track()


if __name__ == "__main__":
    train_prior()
