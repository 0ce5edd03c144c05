"""``refresh-data`` and ``personalize-decoder`` on a real server."""

from __future__ import annotations

import json
import shutil

import pytest
from made_checkout import run

pytestmark = pytest.mark.slow


@pytest.fixture
def trained(deployed, runs, candidate):
    """The checkout with the candidate's results merged, as a person does who likes them; undone afterwards."""
    before = run(deployed, "git", "rev-parse", "HEAD").strip()
    run(deployed, "git", "merge", "--quiet", "--ff-only", f"runs/{runs.folder(candidate).name}")
    yield deployed
    run(deployed, "git", "reset", "--quiet", "--hard", before)


def test_new_data_is_compared_and_kept_and_the_same_again_is_nothing(trained, runs):
    asked = {"overrides": ["data.world.train=80"], "train": None}
    first = runs.start("refresh-data/default", **asked)
    state = runs.ended(first)
    assert state.is_completed(), runs.log(first)
    assert "images: MMD²" in state.message and "no training was asked for" in state.message
    rows = json.loads(runs.artifacts(first)["drift"])
    assert [row["what"] for row in rows] == ["images", "captions"]
    assert all(0 < float(row["p"]) <= 1 for row in rows)
    branch = f"runs/{runs.folder(first).name}"
    assert "train: 80" in run(trained, "git", "show", f"{branch}:params.yaml")

    state = runs.ended(runs.start("refresh-data/default", **asked))
    assert "Nothing changed" in state.message
    (runs.folder(first) / ".git/eclipse-published.json").unlink()  # as if the first run had been cut off at its end
    state = runs.ended(runs.start("refresh-data/default", **asked))
    assert "New data in" in state.message, "what was ingested was told to nobody"


def test_a_decoder_for_a_persons_concept(deployed, runs, candidate):
    pictures = deployed / "workspaces/concept"
    pictures.mkdir()
    for name in ("heart", "moon", "star"):
        shutil.copy(deployed / f"docs/examples/{name}.png", pictures)
    out = "workspaces/decoder"
    run_id = runs.start("personalize-decoder/default", concepts=["badge=workspaces/concept"], out=out, steps=1)
    assert runs.ended(run_id).is_completed(), runs.log(run_id)
    assert json.loads((deployed / out / "finetune.json").read_text())
