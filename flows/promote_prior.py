"""From candidate to champion as a flow: compare, show the sheet, wait for a person, and only then promote.

Which version is asked for: the one given; else one that a person moved the alias ``champion`` to in MLflow's UI; else
the ``candidate``. It is reviewed on its own data version: in a workspace at the commit that it was registered from.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_image_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.states import Completed
from pydantic import Field

from eclipse.files import read_json
from eclipse.releases.store import Releases
from eclipse.tracking.registry import CANDIDATE, Registry, Version
from flows import versions
from flows.alive import add_tags, announce, go_on
from flows.commands import DVC, ECLIPSE
from flows.errors import BadInputError
from flows.steps import RETRIES, run_in
from flows.versions import Variant
from flows.workspace import Workspace, open_workspace

CHAMPION: Literal["champion"] = "champion"


class Answer(RunInput):
    """What a reviewer answers in Prefect's UI, or by ``python -m flows.answer``."""

    approve: bool = Field(description="promote this version?")
    reviewer: str = Field(min_length=1, description="your name; it signs the sheet")
    comment: str = Field("", description="recorded with the decision")
    override: bool = Field(False, description="promote although it is below the rule; the comment is the reason")


@dataclass(frozen=True)
class Asked:
    """A version that somebody wants promoted; ``by_alias`` if it was by moving the alias ``champion`` in MLflow."""

    variant: Variant
    version: Version
    by_alias: bool


@task(**RETRIES)
def find_asked(variant: Variant | None, number: str | None, only_alias: bool) -> list[Asked]:
    """What is to be reviewed. Nothing is found where the champion in force is what MLflow names, and no candidate."""
    root = versions.checkout()
    registry, state = Registry(versions.tracking_uri(root)), releases_of(root).state()
    found = []
    for name in registry.names():
        kind = versions.variant_of(name)
        if variant in (None, kind):
            champion = state.entry(name, CHAMPION)
            asked = _asked(registry, name, number, champion.version if champion else None)
            if asked and (asked[1] or not only_alias):
                found.append(Asked(kind, *asked))
    if number and not found:
        raise BadInputError(f"version {number}: no registered prior{f' {variant}' if variant else ''}; see `mlflow ui`")
    return found


@task(**RETRIES)
def check_out(workspace: Workspace, version: Version, remote: bool) -> None:
    """Bring the data version of ``version`` into the workspace, from the cache or the remote."""
    recorded, present = version.tags.get("eclipse.dvc_lock"), versions.lock_digest(workspace.folder)
    if recorded != present:
        raise BadInputError(
            f"{version}: was registered with the dvc.lock {str(recorded)[:12]}, but that of its commit "
            f"{workspace.base[:12]} is {present[:12]}: it came from an uncommitted tree; start train-prior on a commit"
        )
    words = ["pull", "--allow-missing"] if remote else ["checkout", "--allow-missing"]
    run_in(workspace, [*DVC, *words])


@task(**RETRIES)
def review(workspace: Workspace, asked: Asked) -> str:
    """Compare with the champion; the sheet stands beside the version in MLflow. Returns the question to a person."""
    words = ["review", "--quiet", "--variant", asked.variant, "--version", asked.version.version]
    run_in(workspace, [*ECLIPSE, *words])
    folder = workspace.folder / "artifacts" / "review" / asked.variant
    decision = read_json(folder / "review.json")["decision"]
    verdict = "passes the rule" if decision["passed"] else "is **below** the rule"
    reasons = "\n".join(f"- {reason}" for reason in decision["reasons"])
    text = f"**{asked.version}** {verdict}.\n\n{reasons}\n\n{decision['rule']}\n\nSheet: `{folder / 'sheet.html'}`"
    create_markdown_artifact(text, key="review", description=str(asked.version))
    picture = base64.b64encode((folder / "sheet.png").read_bytes()).decode()
    create_image_artifact(image_url=f"data:image/png;base64,{picture}", key="review-sheet", description="the sheet")
    return text


@task(**RETRIES)
def sign(workspace: Workspace, asked: Asked, answer: Answer) -> None:
    """Put the reviewer's name on the sheet."""
    words = ["sign", "--variant", asked.variant, "--version", asked.version.version, "--reviewer", answer.reviewer]
    run_in(workspace, [*ECLIPSE, *words])


@task(**RETRIES)
def promote(workspace: Workspace, asked: Asked, answer: Answer, bundle: bool) -> None:
    """Build the Bento, move the aliases and switch what servers read: one command, all of it or nothing."""
    words = ["promote", "--variant", asked.variant, "--version", asked.version.version, "--by", answer.reviewer]
    words += ["--reason", answer.comment] if answer.comment else []
    words += ["--override"] if answer.override else []
    words += [] if bundle else ["--no-bundle"]
    run_in(workspace, [*ECLIPSE, *words])


@task(cache_policy=NO_CACHE)
def roll_out(asked: Asked) -> str:
    """Check that servers of this checkout get the version: they read the switched state themselves. The release."""
    state = releases_of(versions.checkout()).state()
    champion = state.entry(asked.version.name, CHAMPION)
    if champion is None or champion.version != asked.version.version:
        raise RuntimeError(
            f"{asked.version}: was promoted, but {state.release} does not name it; see releases/audit.jsonl"
        )
    return state.release


@task(**RETRIES)
def refuse(version: Version, why: str) -> None:
    """Record the refusal with the version."""
    Registry(versions.tracking_uri(versions.checkout())).tag(version, "eclipse.review.refused", why)


@task(**RETRIES)
def take_request(version: Version) -> None:
    """Make a version that got the alias ``champion`` by hand the candidate; the alias goes back to what is in force."""
    root = versions.checkout()
    registry, in_force = Registry(versions.tracking_uri(root)), releases_of(root).state().entry(version.name, CHAMPION)
    registry.set_alias(version.name, CANDIDATE, version.version)
    if in_force:
        registry.set_alias(version.name, CHAMPION, in_force.version)
    else:
        registry.delete_alias(version.name, CHAMPION)


@flow(name="promote-prior", log_prints=True)
def promote_prior(
    variant: Variant | None = None,
    version: str | None = None,
    only_alias: bool = False,
    answer_within: int = Field(86400, ge=1),
    bundle: bool = True,
) -> Any:
    """Review what is asked for and promote it if a person says so.

    Args:
        variant: eclipse or lambda-eclipse; by default whatever is registered.
        version: number of the version; by default what MLflow's aliases ask for.
        only_alias: look only for an alias champion that a person moved.
        answer_within: seconds to wait for an answer; none in this time means "not promoted".
        bundle: build a Bento.
    """
    announce()
    asked = find_asked(variant, version, only_alias)
    if not asked:
        return Completed(message="Nothing to review: no candidate, and MLflow's champion is the one in force.")
    said = [_decide(one, answer_within, bundle) for one in asked]
    if any(": promoted" in text for text in said):
        return Completed(message="; ".join(said))
    return Completed(name="NotPromoted", message="; ".join(said))


def releases_of(root: Path) -> Releases:
    """The releases that servers of this checkout read."""
    return Releases(Path(versions.ledger(root)["ECLIPSE_RELEASES"]))


def _asked(registry: Registry, name: str, number: str | None, champion: str | None) -> tuple[Version, bool] | None:
    """The version asked for and whether by the alias ``champion``; None if nobody asks for any."""
    if number:
        return registry.get(name, number), False
    named = registry.by_alias(name, CHAMPION)
    # With nothing in force here, a version that was promoted is another checkout's champion and no request.
    if named and named.version != champion and (champion or "eclipse.promoted.at" not in named.tags):
        return named, True
    candidate = registry.by_alias(name, CANDIDATE)
    return (candidate, False) if candidate and candidate.version != champion else None


def _decide(asked: Asked, answer_within: int, bundle: bool) -> str:
    root, commit = versions.checkout(), asked.version.tags.get("eclipse.git.commit")
    if not commit:
        raise BadInputError(f"{asked.version}: has no tag eclipse.git.commit; register it from a git checkout")
    add_tags([f"version:{asked.version.name}/{asked.version.version}", f"commit:{commit[:12]}"])
    remote = versions.default_remote(root) is not None
    with open_workspace(root, f"promote-{commit[:12]}", commit, get_run_logger().info) as workspace:
        check_out(workspace, asked.version, remote)
        if asked.by_alias:
            take_request(asked.version)
        question = review(workspace, asked)
        answer = _ask(question, answer_within)
        if answer is None or not answer.approve:
            why = (
                "nobody answered in time" if answer is None else f"{answer.reviewer}: {answer.comment or 'no comment'}"
            )
            refuse(asked.version, why)
            return f"{asked.version}: not promoted ({why})"
        sign(workspace, asked, answer)
        promote(workspace, asked, answer, bundle)
    return f"{asked.version}: promoted as {roll_out(asked)}, approved by {answer.reviewer}"


def _ask(question: str, seconds: int) -> Answer | None:
    """Pause until a person answers; None if nobody does."""
    try:
        return pause_flow_run(Answer.with_initial_data(description=question), timeout=seconds, poll_interval=3)
    except FlowPauseTimeout:
        go_on()
        return None


if __name__ == "__main__":
    promote_prior()
