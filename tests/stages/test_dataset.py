from __future__ import annotations

from pathlib import Path

import yaml

from eclipse.config import load_params
from eclipse.data.manifest import load_manifest
from eclipse.data.split import CellPattern
from eclipse.files import read_json
from eclipse.stages.dataset import run

ROOT = Path(__file__).resolve().parents[2]


def test_world_stage_writes_the_dataset_and_its_summary(tmp_path):
    small = ["data.world.train=30", "data.world.evaluation=3", "data.shard_size=20"]
    params = load_params(ROOT / "params.yaml", small)
    summary = run(params, out=tmp_path / "dataset", metrics=tmp_path / "metrics/dataset.json")
    assert read_json(tmp_path / "metrics/dataset.json") == summary
    assert summary["records"] == {"train": 30, "val_seen": 3, "val_held_out": 3, "test_seen": 3, "test_held_out": 3}
    assert summary["shards"] == 6
    assert summary["bytes"] == sum(p.stat().st_size for p in (tmp_path / "dataset/shards").iterdir())
    assert summary["digest"] == load_manifest(tmp_path / "dataset").digest


def test_twemoji_cells():
    raw = yaml.safe_load((ROOT / "conf/profile/twemoji.yaml").read_text())
    pattern = CellPattern(raw["data"]["hold_out"])
    tone = "medium-light skin tone"
    assert pattern.cell(f"woman pilot, {tone}") == ("gender=woman", "role=pilot", "tone=medium-light")
    assert pattern.cell(f"pilot, {tone}") == ("gender=", "role=pilot", "tone=medium-light")
    assert pattern.cell(f"person, {tone}") == ("gender=person", "role=", "tone=medium-light")
    assert pattern.cell(f"manatee, {tone}") == ("gender=", "role=manatee", "tone=medium-light")
    hands = pattern.cell(f"men holding hands, dark skin tone, {tone}")
    assert hands == ("family=men holding hands", "tone=dark", "tone=medium-light")
    assert hands == pattern.cell(f"men holding hands, {tone}, dark skin tone")
    kiss = pattern.cell(f"kiss, man, man, dark skin tone, {tone}")
    assert kiss == ("family=kiss, man, man", "tone=dark", "tone=medium-light")
    assert pattern.cell(f"man, {tone}, beard") is None
    assert pattern.cell("woman pilot") is None
