"""Results travel through the remote's run cache: one checkout publishes, another finds and computes nothing."""

from __future__ import annotations

import pytest
import yaml

from components.jobs import run_cache
from components.jobs.errors import FailedError, JobError
from tests.components.jobs.small import POINT, clone, dvc, small_checkout

METRICS = "metrics/train/eclipse-0.2-0.json"
PRIOR = "artifacts/priors/eclipse-0.2-0"


@pytest.fixture(scope="module")
def remote(tmp_path_factory):
    return tmp_path_factory.mktemp("remote")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, remote):
    """With the store made."""
    root = small_checkout(tmp_path_factory.mktemp("jobs") / "checkout", remote)
    with run_cache.opened(root) as repo:
        repo.reproduce("embed")
    return root


@pytest.fixture(scope="module")
def published(checkout):
    """With a made-up prior and its metrics sent as the stage's result."""
    (checkout / PRIOR).mkdir(parents=True)
    (checkout / PRIOR / "weights").write_text("trained elsewhere")
    (checkout / METRICS).parent.mkdir(parents=True)
    (checkout / METRICS).write_text('{"loss": 1}')
    with run_cache.opened(checkout) as repo:
        assert run_cache.restore(repo, [POINT]) == []
        run_cache.publish(repo, [POINT])
        assert run_cache.push(repo, ["embed"]) == ["embed"]
    return checkout


def test_elsewhere_repro_finds_the_result_and_trains_nothing(published, tmp_path):
    other = clone(published, tmp_path / "other")
    said = dvc(other, "repro", "--pull", POINT)
    assert f"Stage '{POINT}' is cached - skipping run" in said
    assert "Running stage" not in said
    assert (other / PRIOR / "weights").read_text() == "trained elsewhere"
    assert (other / METRICS).read_text() == '{"loss": 1}', "what DVC does not cache was left behind"


def test_restore_brings_what_is_there_and_names_it(published, tmp_path):
    other = clone(published, tmp_path / "other")
    with run_cache.opened(other) as repo:
        assert run_cache.restore(repo, ["embed", POINT]) == ["embed", POINT]
        assert run_cache.finished(repo) == [], "dvc.lock is written by `dvc repro` alone"
    assert (other / PRIOR / "weights").is_file()


def test_keys_are_equal_for_equal_inputs_only(published, tmp_path):
    with run_cache.opened(published) as repo:
        key = run_cache.key_of(repo, POINT)
        sent = run_cache.lock_entries(repo, run_cache.producers(repo, [POINT]))
    other = clone(published, tmp_path / "other")
    with run_cache.opened(other) as repo, pytest.raises(JobError, match=r"artifacts/store: .* nobody made it"):
        run_cache.key_of(repo, POINT)
    (other / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": sent}))
    with run_cache.opened(other) as repo:
        assert run_cache.key_of(repo, POINT) == key, "dvc.lock stands for data that is not there"
        run_cache.pull_inputs(repo, POINT)
        assert run_cache.key_of(repo, POINT) == key
        run_cache.check_key(repo, POINT, key)
    params = yaml.safe_load((other / "params.yaml").read_text())
    for section, name, value, equal in (("train", "lr", 0.5, False), ("evaluate", "images", 9, True)):
        changed = {**params, section: {**params[section], name: value}}
        (other / "params.yaml").write_text(yaml.safe_dump(changed))
        with run_cache.opened(other) as repo:
            assert (run_cache.key_of(repo, POINT) == key) is equal
    (other / "params.yaml").write_text(yaml.safe_dump({**params, "train": {**params["train"], "lr": 0.5}}))
    with run_cache.opened(other) as repo, pytest.raises(JobError, match="not those of the submitter"):
        run_cache.check_key(repo, POINT, key)


def test_no_remote_and_no_stage_say_what_helps(tmp_path):
    root = small_checkout(tmp_path / "alone", None)
    with run_cache.opened(root) as repo:
        with pytest.raises(JobError, match="no default DVC remote.*dvc remote add"):
            run_cache.restore(repo, [POINT])
        with pytest.raises(JobError, match="no stage train@eclipse-0.9-0; `dvc stage list`"):
            run_cache.stage_of(repo, "train@eclipse-0.9-0")
        with pytest.raises(JobError, match="dvc.lock: knows no embed"):
            run_cache.lock_entries(repo, ["embed"])
    with pytest.raises(FailedError, match="DVC"), run_cache.opened(tmp_path):
        pass
