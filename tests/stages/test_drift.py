"""The drift report of two stores."""

from __future__ import annotations

import json

import pytest
from made_store import made_store

from closure import ROOT
from eclipse.config import load_params
from eclipse.errors import ConfigError, StoreError
from eclipse.stages.drift import run

PARAMS = load_params(ROOT / "params.yaml")


@pytest.fixture
def stores(tmp_path):
    for name, count in (("old", 40), ("new", 50)):
        made_store(tmp_path / name, {"train": [count]})
    return tmp_path


def test_a_store_does_not_drift_from_itself(stores):
    found = run(PARAMS, reference=stores / "old", fresh=stores / "old", out=stores / "drift.json", permutations=99)
    assert found == json.loads((stores / "drift.json").read_text())
    assert found["images"]["p"] > 0.5 and found["images"]["mmd2"] < 0
    assert found["records"] == {"reference": 40, "fresh": 40, "added": 0, "gone": 0}


def test_counts_what_came_and_draws_a_sample(stores):
    found = run(
        PARAMS, reference=stores / "old", fresh=stores / "new", out=stores / "d.json", sample=30, permutations=9
    )
    assert found["records"]["added"] == 10
    assert (found["captions"]["n"], found["captions"]["m"]) == (30, 30)


def test_another_clip_is_refused(stores):
    header = json.loads((stores / "new" / "header.json").read_text())
    (stores / "new" / "header.json").write_text(json.dumps(header | {"weights_hash": "b" * 64}))
    with pytest.raises(StoreError, match="another encoder"):
        run(PARAMS, reference=stores / "old", fresh=stores / "new", out=stores / "d.json")


def test_a_sample_of_one_is_refused(stores):
    with pytest.raises(ConfigError, match="--sample 1"):
        run(PARAMS, reference=stores / "old", fresh=stores / "new", out=stores / "d.json", sample=1)
