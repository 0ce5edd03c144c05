"""What a run shows in Prefect's UI: stages, progress, the λ table, the Pareto picture, links, and what is on record."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from eclipse.config import load_params
from eclipse.evaluate.summary import collect
from eclipse.report.figures import pareto_figure
from flows.stage_log import StageLog
from flows.versions import DataVersion, tracking_uri

_SPLIT = "test_held_out"


class Progress:
    """A progress artifact of ``total`` stages; made with the first stage, and quiet where the total is unknown."""

    def __init__(self, key: str, total: int) -> None:
        self._key = key
        self._total = total
        self._id: UUID | None = None

    def __call__(self, log: StageLog) -> None:
        """Show how many stages were left behind, and which one runs."""
        if not self._total:
            return
        names = list(log.rows)
        share = 100.0 * min(len(names) - 1, self._total) / self._total
        self._show(share, f"{names[-1]} ({len(names)} of {self._total} stages)")

    def done(self) -> None:
        """Show that nothing is left."""
        if self._id:
            self._show(100.0, "all stages are up to date")

    def _show(self, share: float, text: str) -> None:
        if self._id is None:
            self._id = cast(UUID, create_progress_artifact(progress=share, key=self._key, description=text))
        else:
            update_progress_artifact(self._id, progress=share, description=text)


def show_stages(log: StageLog) -> None:
    """The table of stages, with the seconds of those that ran and the reason why others did not."""
    text = f"{len(log.ran)} stages ran, {len(log.reused)} were reused."
    if not log.rows:
        text = "Everything is up to date: no stage had to be looked at twice."
    create_table_artifact(key="stages", table=log.table(), description=text)


def show_version(version: DataVersion) -> None:
    """What the run started from, what names its results, and where the bytes are."""
    create_table_artifact(key="data-version", table=version.rows(), description="`git checkout COMMIT && dvc checkout`")


def show_sweep(folder: Path) -> None:
    """The λ table and the Pareto picture of the sweep in the workspace ``folder``."""
    params = load_params(folder / "params.yaml")
    settings = params.evaluate
    evaluations = folder / "metrics" / "evaluate"
    rows = collect(evaluations, names=params.sweep.names, count=settings.bootstrap, seed=settings.seed)
    metric = params.select.metric
    table = [_figures(row, metric) for row in rows]
    create_table_artifact(key="lambda", table=table, description=f"means over seeds, {_SPLIT}, 95 % intervals")
    if any(row.value(_SPLIT, metric) is not None for row in rows):
        # Its background is transparent, and the UI's is dark.
        figure = pareto_figure(rows, metric, metric).replace("<svg ", '<svg style="background: white" ', 1)
        picture = base64.b64encode(figure.encode()).decode()
        create_image_artifact(
            image_url=f"data:image/svg+xml;base64,{picture}", key="pareto", description=f"{metric} against cosine"
        )


def show_links(folder: Path, checkout: Path) -> None:
    """Links to the report and to MLflow; where MLflow is a file, the command that opens it."""
    report = folder / "artifacts" / "report" / "report.html"
    create_link_artifact(link=report.as_uri(), key="report", link_text="report.html", description=str(report))
    uri = tracking_uri(checkout)
    if uri.startswith(("http://", "https://")):
        create_link_artifact(link=uri, key="mlflow", link_text="MLflow")
    else:
        create_markdown_artifact(f"    mlflow ui --backend-store-uri {uri}", key="mlflow", description="MLflow's store")


def _figures(row: Any, metric: str) -> dict[str, str]:
    shown = {"point": row.point}
    for name in ("cosine", metric):
        found = row.splits.get(_SPLIT, {}).get(name)
        shown[name] = "" if found is None else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
    return shown
