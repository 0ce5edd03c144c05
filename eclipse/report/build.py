"""Puts the page together: reads, chooses, renders, writes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from eclipse.config.params import Params
from eclipse.data.manifest import load_manifest
from eclipse.evaluate.summary import Row, collect, lam
from eclipse.files import read_json
from eclipse.report import export, failures, figures, results, sheets, sources
from eclipse.report.results import heading, is_reference, measured
from eclipse.report.sources import Training
from eclipse.report.subjects import SubjectSection, subject_section

SPLITS = {"test_held_out": "Held-out captions", "test_seen": "Seen captions"}
SHEET_COLUMNS, FAILURES_EACH = 12, 6
_BASELINE = "projection"


@dataclass(frozen=True)
class Sources:
    """Folders that the report reads; ``details`` holds ``<point>-<seed>/per_prompt.parquet`` and ``images/``."""

    evaluations: Path
    details: Path
    priors: Path
    selected: Path
    dataset: Path
    study: Path | None = None
    subjects: Path | None = None
    subject_evaluations: Path | None = None


def write_report(params: Params, sources_: Sources, out: Path) -> dict[str, Any]:
    """Write ``report.html``, ``plots/*.csv`` and ``sheets/*.png`` into the existing folder ``out``.

    Returns the selected point and, for each trained point, the headline metric on both test splits.
    """
    count, seed = params.evaluate.bootstrap, params.evaluate.seed
    names = params.sweep.names
    rows = collect(sources_.evaluations, sources_.details, names=names, count=count, seed=seed)
    trainings = [t for t in sources.read_trainings(sources_.priors) if f"{t.point}-{t.seed}" in names]
    selection = read_json(sources_.selected / "selection.json")
    metric = headline(rows, selection["metric"])
    # What makes no figure of the page is left out.
    settings = params.model_dump(mode="json", exclude={"promote", "serve", "cluster", "decoder"})
    subjects = read_subjects(params, sources_)
    made = [sheets.make_sheet(rows, sources_.details, sources_.dataset, s, columns=SHEET_COLUMNS) for s in SPLITS]
    drawn = [sheet for sheet in made if sheet is not None]
    context = {
        "profile": params.profile,
        "selection": selection_facts(selection),
        "tables": [table(rows, trainings, split, title, selection["point"]) for split, title in SPLITS.items()],
        "differences": difference_table(rows, sources_.details, metric, count, seed),
        "figures": plots(rows, trainings, metric),
        "sheets": [sheets.page_cells(sheet, SPLITS[sheet.name]) for sheet in drawn],
        "failures": failure_cells(selection, rows, sources_),
        "subjects": subjects.context if subjects else None,
        "studies": sources.read_studies(sources_.study) if sources_.study else [],
        "settings": yaml.safe_dump(settings, sort_keys=False, allow_unicode=True),
        "lineage": lineage(trainings, sources_.dataset),
    }
    (out / "report.html").write_text(render(context), encoding="utf-8")
    export.write_plots(out / "plots", rows, trainings, metric)
    export.write_sheets(out / "sheets", [*drawn, *(subjects.sheets if subjects else ())])
    values = {row.point: {s: measured(row, s, metric) for s in SPLITS} for row in rows}
    scores = {p: {s: e.value for s, e in by_split.items() if e} for p, by_split in values.items()}
    return {"selected": selection["point"], "metric": metric, "test": scores}


def render(context: dict[str, Any]) -> str:
    """The page for ``context``; every string in it is escaped unless it is one of our own SVGs."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("eclipse.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["signed"] = lambda value: f"{value:+.3f}".replace("-", "−")
    return environment.get_template("report.html.j2").render(context)


def read_subjects(params: Params, from_: Sources) -> SubjectSection | None:
    """The λ-ECLIPSE section; None where no such prior was trained."""
    if from_.subjects is None or from_.subject_evaluations is None or not params.subjects.points:
        return None
    return subject_section(params, from_.subject_evaluations, from_.subjects)


def headline(rows: Sequence[Row], wanted: str) -> str:
    """The metric that leads: ``wanted`` if the test splits have it, else their first one that is not image cosine."""
    names = results.present(rows, "test_held_out") or results.present(rows, "test_seen")
    return wanted if wanted in names else next((name for name in names if name != "cosine"), "cosine")


def selection_facts(selection: dict[str, Any]) -> dict[str, Any]:
    """What the header says of the selected prior, and the candidates that the rule compared."""
    candidates = [
        {
            "label": results.label(c["point"]),
            "chosen": c["point"] == selection["point"],
            "cells": [f"{c['metric']:.4f}", f"{c['cosine']:.4f}", c["verdict"]],
        }
        for c in selection["candidates"]
    ]
    facts = {key: selection.get(key) for key in ("seed", "rule", "prior_hash", "split")}
    return {
        **facts,
        "name": results.label(selection["point"]),
        "metric": heading(selection["metric"]).text,
        "value": f"{selection['value']:.3f}",
        "candidates": candidates,
    }


def table(rows: Sequence[Row], trainings: Sequence[Training], split: str, title: str, selected: str) -> dict[str, Any]:
    """Cells of one split: every metric that any row has, the best trained value of each column marked."""
    names = results.present(rows, split)
    best = {name: results.best(rows, split, name) for name in names}
    lines = []
    for row in rows:
        cells = [results.cell(measured(row, split, name), name, best[name]) for name in names]
        spent = [t.curves["seconds"][-1] for t in trainings if t.point == row.point and t.curves.get("seconds")]
        times = [
            f"{sum(spent) / len(spent):.0f}" if spent else "–",
            f"{row.prior_seconds * 1000:.2f}" if row.prior_seconds else "–",
        ]
        lines.append(
            {
                "label": results.label(row.point),
                "seeds": len(row.seeds),
                "reference": is_reference(row),
                "selected": row.point == selected,
                "cells": cells,
                "times": times,
            }
        )
    return {"split": split, "title": title, "heads": [heading(name) for name in names], "rows": lines}


def difference_table(rows: Sequence[Row], details: Path, metric: str, count: int, seed: int) -> dict[str, Any] | None:
    """Paired differences to projection on held-out captions; None where there is nothing to compare."""
    names = [
        n for n in dict.fromkeys((metric, "cosine", "r1", "clip_score")) if n in results.present(rows, "test_held_out")
    ]
    found = results.differences(rows, details, _BASELINE, "test_held_out", names, count=count, seed=seed)
    if not found:
        return None
    lines = [{"label": results.label(p), "cells": [by_name.get(n) for n in names]} for p, by_name in found.items()]
    return {"heads": [heading(n).text for n in names], "rows": lines, "baseline": results.label(_BASELINE)}


def plots(rows: Sequence[Row], trainings: Sequence[Training], metric: str) -> dict[str, Markup]:
    """The page's figures; one that nothing is known for is left out."""
    made: dict[str, Markup] = {}
    title = heading(metric).text
    if any(lam(row.point) is not None for row in rows):
        panels = dict.fromkeys([(metric, title), ("cosine", "image cosine")])
        made["lambda"] = Markup(figures.lambda_figure(rows, list(panels)))
    if metric != "cosine" and any(not is_reference(row) and measured(row, "test_held_out", metric) for row in rows):
        made["pareto"] = Markup(figures.pareto_figure(rows, metric, title))
    if trainings:
        made["curves"] = Markup(figures.curves_figure({(t.point, t.seed): t.curves for t in trainings}))
    return made


def failure_cells(selection: dict[str, Any], rows: Sequence[Row], from_: Sources) -> dict[str, Any] | None:
    """The selected prior's failures on held-out captions, with their true and decoded pictures where kept."""
    split = "test_held_out"
    row = next((r for r in rows if r.point == selection["point"] and split in r.splits), None)
    if row is None:
        return None
    images = sheets.read_images(from_.details, row.point, selection["seed"], split)
    prompts = results.read_prompts(from_.details, row.point, selection["seed"], split)
    chosen = failures.choose(prompts, split=split, each=FAILURES_EACH, pictures=len(images))
    if chosen is None:
        return None
    ids = [f.id for group in chosen.groups for f in group.shown]
    truth = sheets.true_pictures(from_.dataset, split, ids) if ids else {}
    groups = []
    for group in chosen.groups:
        shown = [
            {
                **asdict(f),
                "truth": sources.inline(sheets.png(truth[f.id])),
                "made": sources.inline(sheets.png(images[f.index])) if len(images) else None,
            }
            for f in group.shown
        ]
        groups.append({"reason": group.reason, "total": group.total, "shown": shown})
    return {
        **{k: v for k, v in asdict(chosen).items() if k != "groups"},
        "groups": groups,
        "name": results.label(row.point),
    }


def lineage(trainings: Sequence[Training], dataset: Path) -> dict[str, Any]:
    """The dataset's digest and, for each prior, what its training.json records."""
    manifest = load_manifest(dataset)
    counts = {name: split.count for name, split in manifest.splits.items()}
    lines = [{"name": f"{t.point}-{t.seed}", "facts": {k: _fact(v) for k, v in t.lineage.items()}} for t in trainings]
    return {
        "digest": manifest.digest,
        "source": manifest.source,
        "counts": counts,
        "held_out": manifest.held_out,
        "dropped": manifest.dropped,
        "priors": lines,
    }


def _fact(value: Any) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)
