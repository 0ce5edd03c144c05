"""Signatures in a real registry; the sheets' content is made up."""

import json

import pytest
from made_reviews import NAME, PARAMS

from eclipse.errors import ConfigError, EclipseError
from eclipse.promotion.compare import Ground
from eclipse.promotion.sign import check_signature, sign
from eclipse.tracking.registry import PRIOR_HASH


def check(world, number, champion=None, *, params=PARAMS, ground=None):
    against = None if champion is None else world.hash(champion)
    return check_signature(world.registry, world.version(number), champion_hash=against, params=params, ground=ground)


def test_a_signed_sheet_of_the_present_state_counts(world):
    world.review(2, champion=1)
    tags = world.version(2).tags
    assert tags["eclipse.review.by"] == "Ada" and tags["eclipse.review.signed"] == tags["eclipse.review.sheet"]
    record = check(world, 2, champion=1)
    assert record["candidate"] == {"version": "2", "prior_hash": world.hash(2)} and record["decision"]["passed"]
    world.review(1)
    assert check(world, 1)["champion"] == {"reference": "text"}


def test_no_sheet_and_no_signature_are_refused(world):
    with pytest.raises(
        EclipseError, match=r"version 3: has no review sheet; run `eclipse review --version 3 --variant eclipse`"
    ):
        check(world, 3)
    with pytest.raises(EclipseError, match="has no review sheet"):
        sign(world.registry, world.version(3), "Ada")
    version = world.review(3, signed=False)
    with pytest.raises(EclipseError, match="its review sheet is unsigned; look at it, then run `eclipse sign`"):
        check(world, 3)
    world.registry.tag(version, "eclipse.review.signed", version.tags["eclipse.review.sheet"])
    with pytest.raises(EclipseError, match="unsigned"):
        check(world, 3)  # nobody's signature
    world.registry.tag(version, "eclipse.review.by", "Ada")
    assert check(world, 3)["decision"]["passed"]  # by hand, as in MLflow's own pages


def test_a_new_sheet_asks_for_a_new_signature(world):
    world.review(2)
    world.review(2, passed=False, signed=False)
    with pytest.raises(EclipseError, match="Ada signed another sheet .* look at the present one"):
        check(world, 2)


@pytest.mark.parametrize("name", ["sheet.html", "review.json"])
def test_files_that_were_changed_are_refused(world, tmp_path, name):
    version = world.review(2)
    path = world.registry.artifact(version, f"review/{name}", tmp_path / "got")
    path.write_text(path.read_text().replace("eclipse", "ECLIPSE", 1).replace('"passed": true', '"passed": false'))
    world.registry.add_artifact(version, path, "review")
    for refused in (lambda: check(world, 2), lambda: sign(world.registry, world.version(2), "Eve")):
        with pytest.raises(EclipseError, match=r"its review sheet or review.json was changed after it was made"):
            refused()


def test_a_sheet_of_another_champion_rule_or_prior_is_stale(world):
    world.review(2, champion=1)
    with pytest.raises(EclipseError, match=r"stale \(changed since: the champion\); run `eclipse review` again"):
        check(world, 2, champion=3)
    with pytest.raises(EclipseError, match=r"changed since: the champion"):
        check(world, 2)
    looser = PARAMS.model_copy(update={"promote": PARAMS.promote.model_copy(update={"margin": 0.5})})
    with pytest.raises(EclipseError, match=r"changed since: params\)"):
        check(world, 2, champion=1, params=looser)
    world.registry.tag(world.version(2), PRIOR_HASH, "0" * 64)
    with pytest.raises(EclipseError, match="changed since: the prior itself"):
        check(world, 2, champion=1)


def test_a_sheet_of_other_data_or_another_decoder_is_stale(world, tmp_path):
    world.review(2)
    frozen = tmp_path / "frozen"
    frozen.mkdir()
    (frozen / "weights").write_bytes(b"1")
    with pytest.raises(EclipseError, match=r"changed since: frozen\)"):
        check(world, 2, ground=Ground("eclipse", tmp_path / "store", tmp_path / "dataset", frozen))


def test_picks_of_a_blind_sheet_are_recorded(world, tmp_path):
    from eclipse.files import sha256

    version = world.review(2, signed=False)
    record = tmp_path / "review.json"
    record.write_text(json.dumps({"blind": {"nonce": "01234567", "a": ["candidate", "champion", "champion"]}}))
    sheet = tmp_path / "sheet.html"
    sheet.write_text(f'<meta name="eclipse-review" content="{sha256(record)}">')
    for path in (record, sheet):
        world.registry.add_artifact(version, path, "review")
    world.registry.tag(version, "eclipse.review.sheet", sha256(sheet))
    with pytest.raises(ConfigError, match="belongs to another sheet"):
        sign(world.registry, world.version(2), "Ada", picks="76543210:ABT")
    assert "eclipse.review.by" not in world.version(2).tags
    sign(world.registry, world.version(2), " Ada ", picks="01234567:ABT")
    tags = world.version(2).tags
    assert tags["eclipse.review.by"] == "Ada" and tags["eclipse.review.signed"] == sha256(sheet)
    assert tags["eclipse.review.picks"].startswith("of 3 pairs: candidate better 2, champion better 0, tie 1")
    assert tags["eclipse.review.picks"].endswith("(01234567:ABT)")


def test_nobody_cannot_sign(world):
    with pytest.raises(ConfigError, match="--reviewer: is empty"):
        sign(world.registry, world.registry.get(NAME, "1"), "  ")
