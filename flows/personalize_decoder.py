"""A decoder finetuned on a person's own concepts, as a flow. A run that was cut off is continued by the same call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.states import Completed
from pydantic import Field

from flows import versions
from flows.alive import add_tags, announce
from flows.commands import DVC, ECLIPSE
from flows.parameters import Override, Seed
from flows.steps import RETRIES, run_in
from flows.workspace import Workspace, committed, name_of, open_workspace

Concept = Annotated[str, Field(pattern=r"^[^=]+=.+$")]


@task(**RETRIES)
def finetune(workspace: Workspace, words: list[str]) -> None:
    """Bring the frozen models up to date, then ``eclipse finetune`` with ``words``."""
    run_in(workspace, [*DVC, "repro", "frozen"])
    run_in(workspace, [*ECLIPSE, "finetune", *words])


@flow(name="personalize-decoder", log_prints=True)
def personalize_decoder(
    concepts: Annotated[list[Concept], Field(min_length=1)],
    out: Path,
    steps: Annotated[int, Field(ge=1)] = 200,
    seed: Seed = 0,
    overrides: list[Override] | None = None,
    allow_dirty: bool = False,
) -> Any:
    """Finetune the decoder of the checkout's commit.

    Args:
        concepts: NAME=FOLDER of each concept's pictures, all in one model.
        out: the new decoder's folder; relative to the checkout.
        steps: optimiser steps.
        seed: seed of noise and order.
        overrides: KEY=VALUE, as finetune.lora_rank=8.
        allow_dirty: run the last commit although the checkout has uncommitted changes.
    """
    announce()
    root = versions.checkout()
    commit = committed(root, allow_dirty=allow_dirty)
    add_tags([f"commit:{commit[:12]}"])
    out = root / out
    placed = [f"{name}={root / folder}" for name, _, folder in (concept.partition("=") for concept in concepts)]
    asked = {"concepts": placed, "steps": steps, "seed": seed, "overrides": overrides}
    words = [word for concept in placed for word in ("--concept", concept)]
    words += ["--steps", str(steps), "--seed", str(seed), "--out", str(out), "--quiet"]
    words += [word for item in overrides or [] for word in ("--set", item)]
    with open_workspace(root, name_of("personalize-decoder", asked), commit, get_run_logger().info) as workspace:
        finetune(workspace, words)
    create_markdown_artifact(f"    {out}", key="decoder", description=", ".join(concepts))
    return Completed(message=f"{out}: {len(concepts)} concepts, {steps} steps")
