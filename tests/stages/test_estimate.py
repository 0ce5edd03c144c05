"""The estimate against what embedding the same dataset really takes, and its arithmetic."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_dataset import annotated, records, tiny_clip, write_dataset

from eclipse.config import load_params
from eclipse.data.manifest import load_manifest
from eclipse.embeddings import estimate
from eclipse.embeddings.estimate import Sample, Span, pace, per_record, stored_bytes
from eclipse.embeddings.reading import open_reader
from eclipse.embeddings.store import Store
from eclipse.errors import ConfigError, DataError
from eclipse.models.clip import FrozenClip
from eclipse.models.clip_flops import image_flops, text_flops
from eclipse.stages import embed
from eclipse.stages.estimate import run

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    return tiny_clip(tmp_path_factory.mktemp("frozen"))


def settings(*overrides):
    return load_params(PARAMS, ["store.batch_size=8", "store.tokens=int8", *overrides])


def sample(count, seconds, tokens=100, size=5000):
    return Sample(count, tokens, size, 1e9, dict(zip(("read", "prepare", "encode", "write"), seconds, strict=True)))


def test_steps_that_overlap_cost_the_slowest_and_others_their_sum():
    samples = [sample(10, (1, 40, 20, 5)), sample(10, (1, 60, 30, 5)), sample(20, (2, 100, 40, 10))]
    alone = per_record(samples, 0)
    assert alone["prepare"] == Span(5.0, 4.0, 6.0)
    assert pace(alone, 0) == (Span(0.1 + 5 + 2 + 0.5, 0.1 + 4 + 2 + 0.5, 0.1 + 6 + 3 + 0.5), "prepare")
    assert pace(per_record(samples, 2), 2) == (Span(2.5, 2.0, 3.0), "prepare")
    assert pace(per_record(samples, 4), 4) == (Span(2.0, 2.0, 3.0), "encode"), "four processes outrun the encoder"


def test_bytes_of_the_other_type_of_tokens_follow_from_those_of_one():
    samples = [sample(10, (1, 1, 1, 1), tokens=150, size=20_000)]
    assert stored_bytes(samples, "int8", 1280)["int8"].median == 2000
    assert stored_bytes(samples, "int8", 1280)["fp16"].median == 2000 + 15 * (2560 - 1282)
    assert stored_bytes(samples, "fp16", 1280)["int8"].median == 2000 - 15 * (2560 - 1282)


@pytest.mark.parametrize("tokens", ["int8", "fp16"])
@pytest.mark.parametrize("kind", [records, annotated])
def test_bytes_and_tokens_are_those_of_the_store(frozen, tmp_path, tokens, kind):
    dataset = write_dataset(tmp_path / "dataset", {"train": kind("train", 60), "val_seen": []}, shard_size=20)
    told = run(settings(f"store.tokens={tokens}"), dataset=dataset, frozen=frozen, records=20, samples=3)
    embed.run(
        settings(f"store.tokens={tokens}"),
        dataset=dataset,
        frozen=frozen,
        out=tmp_path / "store",
        metrics=tmp_path / "m.json",
    )
    entries = Store.open(tmp_path / "store", "train").header.splits["train"].shards
    size = sum(entry.bytes + entry.table.bytes for entry in entries)
    assert told["bytes"][tokens]["low"] <= size <= told["bytes"][tokens]["high"]
    count = sum(entry.tokens for entry in entries)
    assert told["tokens"]["low"] <= count <= told["tokens"]["high"]
    assert told["records"] == told["sampled"] == 60


def test_only_the_file_is_shared_out_over_the_records_that_were_not_taken(frozen, tmp_path, monkeypatch):
    dataset = write_dataset(tmp_path / "dataset", {"train": records("train", 20)}, shard_size=20)
    now = [0.0]

    def takes(name, seconds):
        original = getattr(estimate, name)

        def slower(*given):
            now[0] += seconds(*given)
            return original(*given)

        monkeypatch.setattr(estimate, name, slower)

    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    takes("verify_shard", lambda *given: 20.0)
    takes("read_shard", lambda *given: 40.0)
    takes("read_tokens", lambda reader, taken, where: 7.0 * len(taken))
    clip = FrozenClip.load(frozen / "clip")
    manifest = load_manifest(dataset)
    reader = open_reader(clip, dataset, manifest, 8)
    samples = estimate.measure(reader, settings().store, dataset, manifest, records=5, samples=1)
    assert per_record(samples, 0)["read"].median == pytest.approx(60 / 20 + 7)


def test_table_and_metrics_agree(frozen, tmp_path, capsys):
    dataset = write_dataset(tmp_path / "dataset", {"train": records("train", 30)})
    told = run(
        settings("store.workers=2"),
        dataset=dataset,
        frozen=frozen,
        metrics=tmp_path / "estimate.json",
        gpus=4,
        price_per_hour=3.0,
        records=10,
    )
    assert json.loads((tmp_path / "estimate.json").read_text()) == told
    shown = capsys.readouterr().out
    assert f"{told['cost']['median']:,.2f}" in shown and "4 × this device" in shown
    assert "← longest" in shown and told["bottleneck"] in ("read", "prepare", "encode", "write")
    assert told["cost"]["high"] == pytest.approx(told["hours"]["high"] * 4 * 3)
    slowest = max(span["median"] for span in told["seconds_per_record"].values())
    assert told["hours"]["median"] == pytest.approx(slowest * 30 / 4 / 3600)
    assert told["records_per_second"]["median"] == pytest.approx(1 / slowest)
    clip = FrozenClip.load(frozen / "clip")
    lengths = (clip.tokenize([r.caption for r in records("train", 30)]).argmax(1) + 1).tolist()
    flops = image_flops(clip.model_cfg) + sum(text_flops(clip.model_cfg, n) for n in lengths) / 30
    assert told["gflop_per_record"] == pytest.approx(flops / 1e9)


def test_wrong_wishes_and_an_empty_dataset_are_named(frozen, tmp_path):
    dataset = write_dataset(tmp_path / "dataset", {"train": []})
    with pytest.raises(DataError, match="holds no records"):
        run(settings(), dataset=dataset, frozen=frozen)
    for wrong in ({"gpus": 0}, {"records": 0}, {"samples": -1}, {"price_per_hour": -2.0}):
        with pytest.raises(ConfigError, match="|".join(wrong).replace("_", "-")):
            run(settings(), dataset=dataset, frozen=frozen, **wrong)
