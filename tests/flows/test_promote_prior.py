"""``promote-prior`` on a real server: started by the candidate, answered by a person, or by nobody."""

from __future__ import annotations

import pytest
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName, FlowFilter, FlowFilterName
from prefect_processes import python, wait_for

from eclipse.releases.store import Releases
from eclipse.tracking.registry import Registry

pytestmark = pytest.mark.slow
NAME = "eclipse-prior-eclipse-mini"


@pytest.fixture
def registry(deployed):
    return Registry(f"sqlite:///{deployed / 'mlflow.db'}")


def _paused(runs, run_id):
    wait_for(lambda: (state := runs.state(run_id)).is_paused() or state.is_final(), 500, "question to a person")
    assert runs.state(run_id).is_paused(), runs.log(run_id)


def _answer(server, deployed, run_id, *words):
    done = python(server, deployed, "-m", "flows.answer", run_id, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_candidate_starts_a_review_and_a_refusal_is_recorded(server, deployed, runs, registry, candidate):
    def started():
        flow = FlowFilter(name=FlowFilterName(any_=["promote-prior"]))
        default = DeploymentFilter(name=DeploymentFilterName(any_=["default"]))
        return runs.client.read_flow_runs(flow_filter=flow, deployment_filter=default)

    (found,) = wait_for(started, 120, "review started by the candidate's event")
    assert found.parameters == {"variant": "eclipse", "version": "1"} | found.parameters
    run_id = str(found.id)
    _paused(runs, run_id)
    unsigned = python(server, deployed, "-m", "flows.answer", run_id, "--approve", "--reviewer", " ")
    assert unsigned.returncode == 2 and "your name" in unsigned.stderr
    wrong = runs.client.resume_flow_run(run_id, run_input={"approve": "perhaps", "reviewer": "Ada"})
    assert wrong.status.value == "REJECT" and "approve" in wrong.details.reason
    assert runs.state(run_id).is_paused(), "an answer of a wrong type was taken"
    _answer(server, deployed, run_id, "--refuse", "--reviewer", "Ada", "--comment", "the cups are blue")
    state = runs.ended(run_id)
    assert (state.name, state.type.value) == ("NotPromoted", "COMPLETED")
    assert "Ada: the cups are blue" in state.message
    assert registry.get(NAME, "1").tags["eclipse.review.refused"] == "Ada: the cups are blue"
    assert {"review", "review-sheet"} <= set(runs.artifacts(run_id))
    assert not Releases(deployed / "releases").state().champions


def test_an_alias_moved_by_hand_is_asked_about_and_goes_back_when_nobody_answers(deployed, runs, registry, candidate):
    registry.set_alias(NAME, "champion", "1")
    run_id = runs.start("promote-prior/alias", answer_within=2)
    # Prefect calls a pause that nobody ended a failure, until the flow says otherwise.
    wait_for(lambda: runs.state(run_id).name == "NotPromoted", 300, "end of the review")
    assert "nobody answered" in runs.state(run_id).message
    assert registry.get(NAME, "1").aliases == ("candidate",)
    assert registry.by_alias(NAME, "champion") is None
    assert not Releases(deployed / "releases").state().champions


def test_approved_is_signed_promoted_and_in_force(server, deployed, runs, registry, candidate):
    run_id = runs.start("promote-prior/default", bundle=False)
    _paused(runs, run_id)
    words = ["--approve", "--override", "--reviewer", "Ada", "--comment", "a tiny world"]
    _answer(server, deployed, run_id, *words)
    state = runs.ended(run_id)
    assert state.name == "Completed", runs.log(run_id)
    assert "promoted as sequence-1, approved by Ada" in state.message
    version = registry.get(NAME, "1")
    assert "champion" in version.aliases and version.tags["eclipse.review.by"] == "Ada"
    champion = Releases(deployed / "releases").state().entry(NAME, "champion")
    assert champion.prior_hash == version.tags["eclipse.prior_hash"]

    checked = runs.ended(runs.start("nightly-check/default", keep_days=365))
    assert checked.is_completed() and "sequence-1: digests right" in checked.message
    nothing = runs.ended(runs.start("promote-prior/alias"))
    assert "Nothing to review" in nothing.message
