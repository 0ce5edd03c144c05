"""The log of shadow scores."""

from __future__ import annotations

import json

from eclipse.serve.metrics import Metrics
from eclipse.serve.shadow import ShadowLog


def count(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("eclipse_shadow_cosine_distance_count")


def test_each_comparison_is_a_line_that_its_owner_alone_can_read(tmp_path):
    metrics, file = Metrics(), tmp_path / "releases" / "shadow.jsonl"
    log = ShadowLog(file, metrics)
    for cosine in (0.5, 0.25):
        log.record({"cosine": cosine, "seed": 3})
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["cosine"], line["seed"]) for line in lines] == [(0.5, 3), (0.25, 3)]
    assert all(line["at"].endswith("+00:00") for line in lines)
    assert file.stat().st_mode & 0o777 == 0o600
    assert count(metrics) == 2
    assert metrics.registry.get_sample_value("eclipse_shadow_cosine_distance_sum") == 1.25


def test_a_disk_that_takes_nothing_is_told_once(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    metrics = Metrics()
    log = ShadowLog(tmp_path / "file" / "shadow.jsonl", metrics)
    for _ in range(3):
        log.record({"cosine": 1.0})
    assert len(caplog.messages) == 1 and "shadow scores are lost" in caplog.text
    assert count(metrics) == 3
