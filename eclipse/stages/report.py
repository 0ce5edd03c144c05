"""Stage ``report``: the sweep as one self-contained HTML page, with its plots and sheets as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eclipse.config.params import Params
from eclipse.files import atomic_folder
from eclipse.report.build import Sources, write_report


def run(
    params: Params,
    *,
    evaluations: Path,
    details: Path,
    priors: Path,
    selected: Path,
    dataset: Path,
    study: Path | None = None,
    subjects: Path | None = None,
    subject_evaluations: Path | None = None,
    out: Path,
) -> dict[str, Any]:
    """Write the report page with its table, curves, contact sheets, failures and lineage.

    Args:
        params: all parameters; printed on the page.
        evaluations: folder of ``<point>-<seed>.json`` metrics.
        details: folder of ``<point>-<seed>/`` with per-prompt scores and pictures.
        priors: folder of ``<point>-<seed>/`` with ``training.json`` and ``curves.csv``.
        selected: the selected prior's folder with ``selection.json``.
        dataset: the dataset folder, for the true pictures.
        study: the studies' folder; shown if it, or a folder in it, holds ``results.json``.
        subjects: folder of the λ-ECLIPSE sweep (``dataset``, ``evaluate``, ``selected``, ``interpolation``).
        subject_evaluations: folder of that sweep's ``<point>-<seed>.json`` metrics.
        out: folder that gets ``report.html``, ``plots/`` and ``sheets/``; replaced whole.
    """
    with atomic_folder(out) as folder:
        sources = Sources(evaluations, details, priors, selected, dataset, study, subjects, subject_evaluations)
        return write_report(params, sources, folder)
