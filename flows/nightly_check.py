"""Whether what is served is what was promoted: digests, and a sample of served pictures drawn again; then, tidying."""

from __future__ import annotations

import random
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.states import Completed, Failed
from pydantic import Field

from eclipse.errors import EclipseError
from eclipse.releases.resolve import resolve
from flows import versions
from flows.alive import announce
from flows.commands import DVC, ECLIPSE, stream
from flows.errors import BadInputError, FlowError
from flows.steps import RETRIES
from flows.workspace import try_lock, workspaces

_DAY = 86400.0
_IDENTICAL = "bit-identical"


@task(**RETRIES)
def verify_digests() -> str:
    """Read all that a server would load, and compare every digest; the release that is in force."""
    try:
        served = resolve(versions.checkout())
    except EclipseError as error:
        raise BadInputError(str(error)) from None
    names = ", ".join(f"{prior.model} {prior.prior_hash[:12]}" for prior in served.priors)
    get_run_logger().info(f"{served.release}: {names}; every digest is right")
    return served.release


@task(**RETRIES)
def replay_sample(pictures: Path, sample: int, seed: int | None) -> list[dict[str, str]]:
    """Draw ``sample`` PNGs of the service below ``pictures`` again; one row each with what the replay said."""
    files = sorted(pictures.rglob("*.png"))
    if not files:
        raise BadInputError(f"{pictures}: holds no PNG; give the folder where served pictures are kept")
    chosen = sorted(random.Random(seed).sample(files, min(sample, len(files))))
    return [{"picture": str(file.relative_to(pictures)), "outcome": _replayed(file)} for file in chosen]


@task(**RETRIES)
def prune(keep_days: float) -> list[str]:
    """Remove workspaces that nobody used for ``keep_days``, then from DVC's cache what no commit or workspace names.

    Nothing is removed from the cache while a run holds a workspace: what it is about to record is not named yet.
    """
    root, say = versions.checkout(), get_run_logger().info
    removed = []
    with ExitStack() as held:
        folders = [path for path in sorted(workspaces(root).glob("*")) if (path / ".git").is_dir()]
        free = [folder for folder in folders if held.enter_context(try_lock(folder))]
        for folder in free:
            if time.time() - (folder / ".git").stat().st_mtime > keep_days * _DAY:
                shutil.rmtree(folder)
                removed.append(folder.name)
        if len(free) < len(folders):
            say("a run is at work: the cache is left as it is")
            return removed
        kept = [str(folder) for folder in folders if folder.name not in removed]
        projects = ["--projects", *kept] if kept else []
        stream([*DVC, "gc", "--all-commits", "--workspace", "--force", *projects], cwd=root, say=say)
    return removed


@flow(name="nightly-check", log_prints=True)
def nightly_check(
    pictures: Path | None = None,
    sample: Annotated[int, Field(ge=1)] = 5,
    seed: int | None = None,
    keep_days: Annotated[float, Field(ge=0)] = 30,
    clean: bool = True,
) -> Any:
    """Verify what is in force.

    Args:
        pictures: folder of PNGs that the service made; without one nothing is drawn again.
        sample: how many of them.
        seed: seed of the sample; by default another one each night.
        keep_days: how long an unused workspace stays.
        clean: prune workspaces and DVC's cache.
    """
    announce()
    release = verify_digests()
    rows = replay_sample(pictures, sample, seed) if pictures else []
    if rows:
        create_table_artifact(key="replay", table=rows, description=f"{len(rows)} served pictures, drawn again")
    removed = prune(keep_days) if clean else []
    wrong = [row["picture"] for row in rows if _IDENTICAL not in row["outcome"]]
    if wrong:
        return Failed(message=f"{release}: {len(wrong)} of {len(rows)} pictures are not what was served: {wrong[0]} …")
    return Completed(
        message=f"{release}: digests right, {len(rows)} pictures identical, {len(removed)} folders removed"
    )


def _replayed(file: Path) -> str:
    root = versions.checkout()
    try:
        lines = stream(
            [*ECLIPSE, "replay", str(file), "--quiet"], cwd=root, say=get_run_logger().info, env=versions.ledger(root)
        )
    except BadInputError as error:
        return str(error)
    told = [line for line in lines if "identical" in line]
    if not told:
        raise FlowError(f"{file}: the replay said nothing of identity; its output is in the log")
    return " ".join(told)
