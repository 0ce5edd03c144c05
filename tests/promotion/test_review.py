"""Reviews of registered priors: who is held against whom, and what becomes of the sheet. The frozen models are real."""

import pytest
from made_reviews import FROZEN, NAME
from made_subjects import make_data, tiny_params

from eclipse.errors import CheckpointError, EclipseError
from eclipse.files import read_json, sha256
from eclipse.promotion.compare import Ground
from eclipse.promotion.review import Places, review
from eclipse.promotion.sign import check_signature, sign
from eclipse.releases.state import Entry, Model, State
from eclipse.tracking.registry import PRIOR_HASH

COUNT = {"train": 4, "val_seen": 0, "val_held_out": 0, "test_seen": 4, "test_held_out": 4}
RULE = tiny_params(promote={"images": 4, "bootstrap": 1000, "sheet_prompts": 5})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A small world, and what was measured on it, which the tests share."""
    root = tmp_path_factory.mktemp("review")
    make_data(root, FROZEN, COUNT)
    return root


@pytest.fixture
def places(world, data):
    ground = Ground("eclipse", data / "store", data / "dataset", FROZEN)
    return Places(ground, world.releases, data / "none", world.folder / "out", data / "measured")


def serve(world, number, hash_=None):
    entry = Entry(str(number), hash_ or world.hash(number), "2026-01-01T00:00:00Z")
    world.releases.write_state(State(1, None, {NAME: Model("eclipse", champion=entry)}))


def test_the_candidate_is_held_against_the_reference_while_there_is_no_champion(world, places):
    record = review(world.registry, places, RULE)
    assert record["name"] == NAME and record["candidate"]["version"] == "3"
    assert record["champion"] == {"reference": "text"} and record["decision"]["primary"]["n"] == 8
    assert record["made_from"].keys() == {
        "store_hash", "dataset_digest", "encoder_hash", "frozen_digest", "params_digest",
    }  # fmt: skip
    version = world.version(3)
    assert version.tags["eclipse.review.sheet"] == sha256(places.out / "sheet.html")
    for name in ("sheet.html", "sheet.png", "review.json"):
        got = world.registry.artifact(version, f"review/{name}", world.folder / "got")
        assert got.read_bytes() == (places.out / name).read_bytes()
    sign(world.registry, version, "Ada")
    found = check_signature(world.registry, world.version(3), champion_hash=None, params=RULE, ground=places.ground)
    assert found == read_json(places.out / "review.json")


def test_what_is_served_is_the_champion_and_a_second_review_changes_nothing(world, places):
    serve(world, 1)
    record = review(world.registry, places, RULE, version="2", blind=True)
    assert record["champion"] == {"version": "1", "prior_hash": world.hash(1)}
    assert record["candidate"]["version"] == "2" and len(record["blind"]["a"]) == 5
    sign(world.registry, world.version(2), "Ada")
    review(world.registry, places, RULE, version="2", blind=True)
    found = check_signature(
        world.registry, world.version(2), champion_hash=world.hash(1), params=RULE, ground=places.ground
    )
    assert found["blind"] == record["blind"]


def test_before_the_first_release_mlflow_s_champion_counts(world, places):
    world.registry.set_alias(NAME, "champion", "1")
    assert review(world.registry, places, RULE, version="2")["champion"]["version"] == "1"
    serve(world, 2)
    assert review(world.registry, places, RULE)["champion"]["version"] == "2"


def test_the_champion_is_not_reviewed_against_itself(world, places):
    serve(world, 2)
    with pytest.raises(EclipseError, match="version 2: is the champion itself; give --version of another"):
        review(world.registry, places, RULE, version="2")
    assert not places.out.exists() and "eclipse.review.sheet" not in world.version(2).tags


def test_without_a_candidate_or_with_another_champion_than_registered_nothing_is_reviewed(world, places):
    world.registry.delete_alias(NAME, "candidate")
    with pytest.raises(EclipseError, match="no version is the candidate; run `eclipse register`, or give --version"):
        review(world.registry, places, RULE)
    with pytest.raises(EclipseError, match="no version 9; there are 1, 2, 3"):
        review(world.registry, places, RULE, version="9")
    serve(world, 1, "0" * 64)
    with pytest.raises(CheckpointError, match="version 1: is not the prior that is served"):
        review(world.registry, places, RULE, version="2")


def test_a_champion_of_another_clip_cannot_be_compared(world, places, monkeypatch):
    from eclipse.promotion import review as module

    serve(world, 1)
    own = module.Side.of

    def other(folder, version):
        side = own(folder, version)
        return side if version != "1" else module.Side(**{**side.__dict__, "encoder_hash": "f" * 64})

    monkeypatch.setattr(module.Side, "of", other)
    with pytest.raises(CheckpointError, match="champion version 1: was trained on another CLIP"):
        review(world.registry, places, RULE, version="2")
    assert world.version(1).tags[PRIOR_HASH] == world.hash(1)
