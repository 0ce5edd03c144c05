import shutil

import pytest
from made_reviews import FROZEN, NAME

from eclipse.errors import CheckpointError, EclipseError
from eclipse.releases.audit import faults, read_audit


def test_rollback_exchanges_champion_and_previous(promoted):
    done = promoted.rollback(reason="stars look like blobs")
    assert (done.outcome, done.version, done.release) == ("rolled-back", "1", "sequence-3")
    assert promoted.aliases() == {"champion": "1", "previous": "2", "candidate": "3"}
    assert promoted.roles() == {"champion": "1", "previous": "2"}
    assert promoted.releases.state().champions[NAME].prior_hash == promoted.hash(1)
    entry = read_audit(promoted.releases)[-1]
    assert (entry["outcome"], entry["from"], entry["to"]) == ("rolled-back", "2", "1")
    assert entry["reason"] == "stars look like blobs" and faults(promoted.releases) == []
    assert promoted.version(2).tags["eclipse.rolled_back.reason"] == "stars look like blobs"
    assert promoted.version(1).tags["eclipse.promoted.decision"] == "rollback"


def test_rolled_back_twice_is_as_before(promoted):
    promoted.rollback()
    promoted.rollback()
    assert promoted.roles() == {"champion": "2", "previous": "1"} and promoted.releases.state().sequence == 4


def test_a_rollback_to_a_version_may_be_repeated(promoted):
    assert promoted.rollback(version="1").outcome == "rolled-back"
    assert promoted.rollback(version="1").outcome == "unchanged"
    assert promoted.roles() == {"champion": "1", "previous": "2"}
    with pytest.raises(EclipseError, match="previous champion is version 2, not 3"):
        promoted.rollback(version="3")


def test_rollback_needs_no_file_of_the_registry(promoted, monkeypatch):
    monkeypatch.setattr(promoted.registry, "download", None)
    monkeypatch.setattr(promoted.registry, "artifact", None)
    assert promoted.rollback().version == "1"


def test_rollback_takes_the_frozen_models_back_too(first):
    before = first.releases.state().frozen
    shutil.copytree(FROZEN, first.folder / "frozen")
    (first.folder / "frozen/decoder/README.md").write_text("another decoder")
    first.review(2, champion=1)
    first.promote(2, frozen=first.folder / "frozen")
    assert first.releases.state().frozen != before
    first.rollback()
    assert first.releases.state().frozen == before


def test_without_a_previous_champion_it_is_refused_and_audited(first):
    with pytest.raises(EclipseError, match="no previous champion"):
        first.rollback()
    assert read_audit(first.releases)[-1]["outcome"] == "refused" and first.roles() == {"champion": "1"}


def test_a_damaged_previous_champion_is_not_put_in_force(promoted):
    (promoted.releases.folder / "priors" / promoted.hash(1) / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=promoted.hash(1)):
        promoted.rollback()
    assert promoted.roles() == {"champion": "2", "previous": "1"}


def test_a_bundle_that_cannot_be_made_does_not_stop_a_rollback(promoted, caplog):
    def build(releases, state):
        assert state.champions[NAME].version == "1"  # servers have switched
        raise EclipseError("no space")

    assert promoted.rollback(build=build).bento is None
    assert promoted.roles()["champion"] == "1" and "its bundle was not made: no space" in caplog.text


def test_after_a_rollback_the_next_review_is_against_the_champion_in_force(promoted):
    promoted.rollback()
    promoted.review(3, champion=2)
    with pytest.raises(EclipseError, match="stale"):
        promoted.promote(3)
    promoted.review(3, champion=1)
    promoted.promote(3)
    assert promoted.roles() == {"champion": "3", "previous": "1"}
