import getpass
import json

import pytest
from huggingface_hub import constants
from made_reviews import PARAMS

from eclipse.errors import CheckpointError, ConfigError, DataError, EclipseError
from eclipse.promotion.ledger import Done
from eclipse.releases import Releases
from eclipse.stages import bundle, pin_decoder, promote, rollback


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ECLIPSE_RELEASES", raising=False)
    monkeypatch.setattr("eclipse.tracking.registry.Registry", lambda: "registry")


@pytest.fixture
def asked(monkeypatch):
    """What the two commands ask for: releases, wish and the rest."""
    calls = []

    def instead(outcome):
        def function(registry, releases, wish, **how):
            calls.append((releases, wish, how))
            return Done(
                wish.name, wish.version or "3", outcome, "sequence-4", how["build"] and "eclipse-mini:sequence-4"
            )

        return function

    monkeypatch.setattr("eclipse.promotion.promote.promote", instead("promoted"))
    monkeypatch.setattr("eclipse.promotion.rollback.rollback", instead("rolled-back"))
    return calls


def test_promote_asks_for_what_its_flags_say(asked, tmp_path, capsys):
    done = promote.run(PARAMS, version=3, override=True, reason="why", by="Ada", frozen=tmp_path)
    ((releases, wish, how),) = asked
    assert releases.folder.resolve() == tmp_path / "releases"
    assert (wish.action, wish.name, wish.version) == ("promote", "eclipse-prior-eclipse-mini", "3")
    assert (wish.override, wish.reason, wish.by) == (True, "why", "Ada") and how["frozen"] == tmp_path
    assert done["outcome"] == "promoted"
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "eclipse-prior-eclipse-mini version 3 is the champion now (sequence-4)",
        "Bento eclipse-mini:sequence-4",
    ]


def test_the_variant_and_decoder_name_the_model(asked):
    serve = PARAMS.serve.model_copy(update={"decoder": "kandinsky-2-2"})
    rollback.run(PARAMS.model_copy(update={"serve": serve}), variant="lambda-eclipse", to=2, by="Ada", no_bundle=True)
    ((_, wish, how),) = asked
    assert (wish.action, wish.name) == ("rollback", "eclipse-prior-lambda-eclipse-kandinsky-2-2")
    assert wish.version == "2" and how["build"] is None


@pytest.mark.parametrize("command", [promote, rollback])
def test_an_unknown_variant_is_refused(command, asked):
    with pytest.raises(ConfigError, match="--variant lambda: choose eclipse or lambda-eclipse"):
        command.run(PARAMS, variant="lambda", by="Ada")


def test_who_decides_is_the_user_of_the_machine(asked, monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "grace")
    promote.run(PARAMS)
    assert asked[0][1].by == "grace" and asked[0][1].version is None

    def nobody():
        raise KeyError("uid")

    monkeypatch.setattr(getpass, "getuser", nobody)
    with pytest.raises(ConfigError, match="--by"):
        promote.run(PARAMS)


def test_bundle_needs_a_champion_a_new_folder_and_no_unfinished_move(tmp_path):
    with pytest.raises(EclipseError, match="names no champion"):
        bundle.run(PARAMS)
    with pytest.raises(DataError, match="exists already"):
        bundle.run(PARAMS, out=tmp_path)
    (Releases(tmp_path / "releases").folder / "journal.json").write_text("{}")
    with pytest.raises(EclipseError, match="a move was cut off"):
        bundle.run(PARAMS)


def test_pin_decoder_writes_what_the_cache_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    snapshot = tmp_path / "hub/models--owner--name/snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "model_index.json").write_text(json.dumps({"_class_name": "KandinskyV22Pipeline"}))
    with pytest.raises(CheckpointError, match=f"owner/name@{'a' * 40}: has no unet/config.json, "):
        pin_decoder.run(PARAMS, source="owner/name", revision="a" * 40, out=tmp_path / "decoder.json")
    assert not (tmp_path / "decoder.json").exists()
