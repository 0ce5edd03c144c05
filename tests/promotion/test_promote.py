import json
import shutil

import pytest
from made_reviews import FROZEN, NAME, PARAMS, make_version, review

from eclipse.errors import CheckpointError, ConfigError, EclipseError
from eclipse.promotion.ledger import Wish
from eclipse.promotion.promote import promote
from eclipse.releases.audit import faults, read_audit
from eclipse.releases.candidate import offer


def last(world):
    return read_audit(world.releases)[-1]


def test_the_first_promotion_puts_a_version_in_force(world):
    world.review(1)
    done = world.promote(1)
    assert (done.outcome, done.version, done.release) == ("promoted", "1", "sequence-1")
    state = world.releases.state()
    entry = state.champions[NAME]
    assert (entry.version, entry.prior_hash) == ("1", world.hash(1)) and state.frozen == entry.frozen
    assert (world.releases.prior(entry.prior_hash) / "README.md").is_file()
    assert (world.releases.frozen(state.frozen) / "clip").is_dir()
    assert world.aliases() == {"champion": "1", "candidate": "3"} and world.roles() == {"champion": "1"}
    assert not (world.releases.folder / "journal.json").exists() and faults(world.releases) == []
    tags = world.version(1).tags
    assert (tags["eclipse.promoted.by"], tags["eclipse.promoted.decision"]) == ("Ada", "passed")
    assert tags["eclipse.promoted.at"] == entry.at


def test_the_champion_before_becomes_previous(first):
    first.review(2, champion=1)
    assert first.promote(2).release == "sequence-2"
    assert first.aliases() == {"champion": "2", "previous": "1", "candidate": "3"}
    assert first.roles() == {"champion": "2", "previous": "1"}
    entry = last(first)
    assert (entry["outcome"], entry["from"], entry["to"], entry["by"]) == ("promoted", "1", "2", "Ada")
    assert entry["decision"]["passed"] and entry["signed_by"] == "Ada" and entry["sheet"]
    assert first.releases.prior(first.hash(1))  # kept for the way back


def test_without_a_version_the_candidate_is_promoted_and_is_none_afterwards(world):
    version = world.version(3)
    registered = {"name": NAME, "version": "3", "variant": "eclipse", "tags": version.tags}
    offer(world.releases, world.registry.download(version, world.folder / "fetched"), registered)
    assert world.roles() == {"candidate": "3"}
    world.review(3)
    assert world.promote().version == "3"
    assert world.aliases() == {"champion": "3"} and world.roles() == {"champion": "3"}


def test_a_later_candidate_stays_one(world):
    version = world.version(3)
    registered = {"name": NAME, "version": "3", "variant": "eclipse", "tags": version.tags}
    offer(world.releases, world.registry.download(version, world.folder / "fetched"), registered)
    world.review(1)
    world.promote(1)
    assert world.aliases()["candidate"] == "3" and world.roles() == {"champion": "1", "candidate": "3"}


def test_without_a_version_an_alias_that_was_moved_by_hand_goes_first(first, caplog):
    first.registry.set_alias(NAME, "champion", "2")
    first.review(2, champion=1)
    assert first.promote().version == "2"
    assert first.aliases() == {"champion": "2", "previous": "1", "candidate": "3"}
    assert "alias champion names version 2, but 1 is in force" in caplog.text


def test_an_alias_moved_by_hand_promotes_nothing_that_is_not_signed(first):
    first.registry.set_alias(NAME, "champion", "2")
    with pytest.raises(EclipseError, match="no review sheet"):
        first.promote()
    assert first.roles() == {"champion": "1"}
    assert first.promote(1).outcome == "unchanged" and first.aliases()["champion"] == "1"  # put right


def test_nothing_to_promote_is_told(world):
    world.registry.delete_alias(NAME, "candidate")
    with pytest.raises(EclipseError, match="nothing to promote: no alias candidate, and there is no champion"):
        world.promote()
    world.review(1)
    world.promote(1)
    with pytest.raises(EclipseError, match="version 1 is the champion"):
        world.promote()


def unsigned(world):
    world.review(2, champion=1, signed=False)
    return "unsigned", {}


def no_sheet(world):
    return "no review sheet", {}


def stale(world):
    world.review(2)
    return "stale .*the champion", {}


def below(world):
    world.review(2, champion=1, passed=False)
    return "below the rule: colour is inferior", {}


def another_clip(world):
    world.review(2, champion=1)
    frozen = world.folder / "frozen"
    shutil.copytree(FROZEN, frozen)
    config = json.loads((frozen / "clip/open_clip_config.json").read_text())
    config["preprocess_cfg"]["mean"] = [0.1, 0.1, 0.1]
    (frozen / "clip/open_clip_config.json").write_text(json.dumps(config))
    return "the prior was trained on", {"frozen": frozen}


def bundle_fails(world):
    world.review(2, champion=1)

    def build(releases, state):
        raise EclipseError("no space")

    return "no space", {"build": build}


@pytest.mark.parametrize("fault", [unsigned, no_sheet, stale, below, another_clip, bundle_fails])
def test_a_refusal_changes_nothing_and_is_audited(first, fault):
    message, how = fault(first)
    aliases, state = first.aliases(), (first.releases.folder / "state.json").read_bytes()
    with pytest.raises(EclipseError, match=message):
        first.promote(2, **how)
    assert first.aliases() == aliases and (first.releases.folder / "state.json").read_bytes() == state
    assert not (first.releases.folder / "journal.json").exists()
    entry = last(first)
    assert (entry["outcome"], entry["from"], entry["to"]) == ("refused", "1", "2") and entry["detail"]
    assert "eclipse.promoted.by" not in first.version(2).tags and faults(first.releases) == []


def test_a_version_that_there_is_not_is_refused(world):
    with pytest.raises(EclipseError, match="no version 9; there are 1, 2, 3"):
        world.promote(9)
    assert (last(world)["outcome"], last(world)["to"]) == ("refused", "9")


def test_below_the_rule_an_override_needs_a_reason_and_is_recorded(world):
    world.review(1, passed=False)
    with pytest.raises(ConfigError, match="--reason"):
        world.promote(1, override=True, reason=" ")
    assert world.promote(1, override=True, reason="the oracle misreads beige").outcome == "promoted"
    entry = last(world)
    assert entry["override"] and entry["reason"] == "the oracle misreads beige" and not entry["decision"]["passed"]
    assert "overridden: the oracle misreads beige" in world.version(1).tags["eclipse.promoted.decision"]


def test_an_override_does_not_stand_in_for_a_signature(world):
    world.review(1, signed=False)
    with pytest.raises(EclipseError, match="unsigned"):
        world.promote(1, override=True, reason="in a hurry")


def test_an_override_that_was_not_needed_is_not_recorded_as_one(world):
    world.review(1)
    world.promote(1, override=True, reason="to be sure")
    assert last(world)["override"] is False and world.version(1).tags["eclipse.promoted.decision"] == "passed"


def test_the_bundle_is_made_of_the_release_to_come_before_servers_switch(world):
    world.review(1)
    seen = []

    def build(releases, state):
        seen.append((releases.state().sequence, state.sequence, state.champions[NAME].version))
        assert releases.prior(state.champions[NAME].prior_hash) and releases.frozen(state.frozen)
        return "eclipse-mini:sequence-1"

    assert world.promote(1, build=build).bento == "eclipse-mini:sequence-1"
    assert seen == [(0, 1, "1")] and last(world)["bento"] == "eclipse-mini:sequence-1"


def test_weights_that_were_changed_on_the_server_are_refused(world, three_versions):
    world.review(1)
    configs = list(three_versions.rglob("artifacts/prior/config.json"))
    kept = {path: path.read_bytes() for path in configs}
    try:
        for path in configs:
            path.write_bytes(kept[path] + b" ")
        with pytest.raises(CheckpointError, match="version 1: what was fetched is the prior"):
            world.promote(1)
    finally:
        for path in configs:
            path.write_bytes(kept[path])
    assert kept and world.roles() == {}


def test_champions_of_two_clips_cannot_be_in_force_together(first, monkeypatch):
    other = make_version(first.registry, first.folder / "lambda", 0, point="lambda-0.2-edges")
    other = review(first.registry, other, first.folder / "review-lambda")
    monkeypatch.setattr("eclipse.promotion.promote._check_encoder", lambda *_: None)
    monkeypatch.setattr("eclipse.promotion.ledger.encoder_of", lambda _, hash_: hash_)
    wish = Wish("promote", other.name, "lambda-eclipse", "Ada", other.version)
    with pytest.raises(CheckpointError, match="several CLIPs"):
        promote(first.registry, first.releases, wish, params=PARAMS, frozen=FROZEN, build=None)
    assert list(first.releases.state().champions) == [NAME]


def test_both_variants_have_a_champion_each(first):
    other = make_version(first.registry, first.folder / "lambda", 0, point="lambda-0.2-edges")
    other = review(first.registry, other, first.folder / "review-lambda")
    wish = Wish("promote", other.name, "lambda-eclipse", "Ada")
    promote(first.registry, first.releases, wish, params=PARAMS, frozen=FROZEN, build=None)
    assert {name: entry.version for name, entry in first.releases.state().champions.items()} == {
        NAME: "1",
        "eclipse-prior-lambda-eclipse-mini": "1",
    }


def test_releases_that_hold_nothing_go_on_from_the_champion_that_mlflow_knows(world):
    world.registry.set_alias(NAME, "champion", "1")  # promoted on another machine
    world.review(2, champion=1)
    assert world.promote(2).outcome == "promoted"


def test_a_broken_audit_is_told(first, caplog):
    audit = first.releases.folder / "audit.jsonl"
    audit.write_text(audit.read_text().replace("Ada", "Bob"))
    first.promote(1)
    assert "warning" not in caplog.text  # the last line's own digest stands in the line after it
    first.review(2, champion=1)
    first.promote(2)
    audit.write_text(audit.read_text().replace("Bob", "Eve", 1))
    first.promote(2)
    assert "line 2 does not follow the line before it" in caplog.text
