"""What a pipeline run did, from the notes that its tasks left: for the log, and as Markdown for KFP's page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kfp.dsl import PipelineTaskFinalStatus

from eclipse.files import atomic_file, read_json

SHARED = "ECLIPSE_PIPELINE"
"""Names the folder that all tasks share: results by content, checkpoints, what runs did. Without it nothing is kept."""
FANNED_OUT = ("point", "seed", "part")
"""Flags that tell the tasks of a fan-out apart."""


def report(run: str, status: PipelineTaskFinalStatus, out: str) -> None:
    """Write how ``run`` ended, and what its tasks did, to the file ``out``; print the same."""
    text = "\n".join([*_ended(run, status), "", *_table(notes(run))]) + "\n"
    with atomic_file(Path(out)) as beside:
        beside.write_text(text, encoding="utf-8")
    print(text, flush=True)


def notes(run: str) -> list[dict[str, Any]]:
    """What the tasks of ``run`` noted, the first to end first; nothing where tasks share no folder."""
    shared = os.environ.get(SHARED)
    found = [read_json(path) for path in Path(shared, "runs", run).glob("*.json")] if shared else []
    return sorted(found, key=lambda note: float(note["at"]))


def _ended(run: str, status: PipelineTaskFinalStatus) -> list[str]:
    told = [f"# Pipeline run {run}: {status.state}"]
    if status.error_message:
        told += ["", " ".join(status.error_message.split())]
    return told


def _table(told: list[dict[str, Any]]) -> list[str]:
    if not told:
        return ["No task left a note."]
    counts = {outcome: sum(note["outcome"] == outcome for note in told) for outcome in ("made", "remembered", "failed")}
    rows = [
        f"| {note['stage']} | {_which(note)} | {note['outcome']} | {note['seconds']:.1f} | {_hash(note)} |"
        for note in told
    ]
    summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    return [f"{summary}:", "", "| stage | of | outcome | seconds | content |", "|---|---|---|---|---|", *rows]


def _which(note: dict[str, Any]) -> str:
    return " ".join(str(note[flag]) for flag in FANNED_OUT if flag in note)


def _hash(note: dict[str, Any]) -> str:
    prior = note.get("prior_hash")
    return f"prior {prior[:12]}" if prior else str(note.get("content", ""))[:12]
