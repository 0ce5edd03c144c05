"""A sweep on a cluster: all go through, some at a time; what fails, vanishes or is there already; and being stopped."""

from __future__ import annotations

import os

import pytest
from listening import listening

from components.jobs.cluster import Cluster
from components.jobs.errors import FailedError, JobError, StoppedError
from components.jobs.manifest import Work, train_job
from components.jobs.watch import Jobs
from eclipse.config.cluster import ClusterParams
from tests.components.jobs.api_server import ApiServer, Fate, write_kubeconfig


@pytest.fixture
def api():
    server = ApiServer()
    with listening(server.app) as server.port:
        yield server


@pytest.fixture
def cluster(api, tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "KUBECONFIG", str(write_kubeconfig(tmp_path / "config", api.port)))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
    return Cluster.connect("eclipse")


POINTS = [f"train@eclipse-0.{i}-0" for i in range(5)]
MANIFESTS = [train_job(Work(point, f"{i}" * 64, "{}", "{}"), ClusterParams()) for i, point in enumerate(POINTS)]


def jobs(cluster, said, *, manifests=MANIFESTS, parallel=2, arrived=lambda stage: True):
    return Jobs(cluster, manifests, parallel=parallel, say=said.append, finished=arrived, poll=0.01)


def never():
    return False


def test_all_run_some_at_a_time_and_their_logs_and_results_come_back(api, cluster):
    said, arrived = [], []
    jobs(cluster, said, arrived=lambda stage: not arrived.append(stage)).run(never)
    assert api.posted == MANIFESTS
    assert api.most == 2
    assert sorted(arrived) == POINTS
    assert sorted(api.deleted) == sorted(each["metadata"]["name"] for each in MANIFESTS), (
        "finished jobs are left behind"
    )
    own = [line.removeprefix(f"{POINTS[0]}") for line in said if line.startswith(POINTS[0])]
    assert own[0].startswith(": submitted as TrainJob train-eclipse-0-0-0-0000000000")
    assert own[1] == ": queued (Said: so)"
    assert {" [0] step 1", " [0] step 2"} <= set(own)
    assert not any("[1]" in line for line in own), "one node's log tells all"
    assert own[-2:] == [": done (Said: so)", ": its result is here"]


def test_a_job_that_is_there_already_is_adopted(api, cluster):
    for manifest in MANIFESTS:
        assert cluster.create(manifest)
    said = []
    jobs(cluster, said, parallel=5).run(never)
    assert len(api.posted) == len(MANIFESTS)
    assert [line for line in said if "found TrainJob" in line] and not [line for line in said if "submitted" in line]


@pytest.mark.parametrize(("code", "error"), [(1, FailedError), (2, JobError)])
def test_a_failed_one_is_named_and_the_others_finish(api, cluster, code, error):
    bad = Fate(("", "Failed"), "error: no\n", code)
    api.fate = lambda manifest: bad if manifest["metadata"]["annotations"]["eclipse/stage"] == POINTS[1] else Fate()
    said, arrived = [], []
    with pytest.raises(error, match=rf"1 failed: {POINTS[1]}; their logs are above"):
        jobs(cluster, said, arrived=lambda stage: not arrived.append(stage)).run(never)
    assert sorted(arrived) == [point for point in POINTS if point != POINTS[1]]
    assert f"{POINTS[1]} [0] error: no" in said
    assert not api.living, "a failed job would be in the way of the next attempt"


def test_done_without_a_result_is_a_failure(cluster):
    said = []
    with pytest.raises(FailedError, match=POINTS[0]):
        jobs(cluster, said, manifests=MANIFESTS[:1], arrived=lambda stage: False).run(never)
    assert f"{POINTS[0]}: done, but its result is not in the DVC remote's run cache" in said


def test_stopped_leaves_no_job_behind(api, cluster):
    api.fate = lambda manifest: Fate(("",))
    said = []
    with pytest.raises(StoppedError):
        jobs(cluster, said).run(lambda: len(api.living) == 2)
    assert not api.living and len(api.deleted) == 2
    assert f"{POINTS[0]}: cancelled TrainJob train-eclipse-0-0-0-0000000000" in said


def test_an_api_server_that_is_away_for_a_while_is_waited_for(api, cluster):
    api.broken = 5
    said = []
    jobs(cluster, said, manifests=MANIFESTS[:1]).run(never)
    assert len([line for line in said if line.endswith("trying again")]) == 5
    api.broken = 1000
    with pytest.raises(FailedError, match="HTTP status 503 of the API server: the server is shutting down"):
        jobs(cluster, said, manifests=MANIFESTS[:1]).run(never)


def test_one_that_failed_before_is_tried_again(api, cluster):
    api.fate = lambda manifest: Fate(("Failed",), exit_code=1) if len(api.posted) == 1 else Fate()
    assert cluster.create(MANIFESTS[0])
    said, arrived = [], []
    jobs(cluster, said, manifests=MANIFESTS[:1], arrived=lambda stage: not arrived.append(stage)).run(never)
    assert arrived == [POINTS[0]]
    assert f"{POINTS[0]}: removed TrainJob train-eclipse-0-0-0-0000000000, which failed before" in said


def test_a_job_that_vanishes_is_submitted_again(api, cluster):
    api.fate = lambda manifest: Fate(("",)) if len(api.posted) == 1 else Fate()

    def watching():
        if len(api.posted) == 1 and any(job.reads > 1 for job in api.living.values()):
            api.living.clear()
        return False

    said = []
    jobs(cluster, said, manifests=MANIFESTS[:1]).run(watching)
    assert f"{POINTS[0]}: was gone; submitted again" in said
    assert len(api.posted) == 2


def test_what_the_cluster_refuses_says_what_helps(api, cluster, monkeypatch):
    api.forbidden = True
    with pytest.raises(JobError, match=r"refused in namespace eclipse \(trainjobs is forbidden\); see docs/runbook.md"):
        jobs(cluster, []).run(never)


def test_no_cluster_says_what_helps(monkeypatch, tmp_path):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(JobError, match="set KUBECONFIG, or write the manifests with --out DIR"):
        Cluster.connect("eclipse")
