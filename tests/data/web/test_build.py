from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from data.web.fetched import sample, some, write_shards
from made_web import ROOT, picture

from eclipse.config.data import DataParams, WebParams
from eclipse.data.benchmarks import load_benchmarks, save_benchmarks
from eclipse.data.manifest import load_manifest, open_split
from eclipse.data.records import SPLITS
from eclipse.data.takedown import audit, load_takedown, refuse_taken_down
from eclipse.data.web import build as building
from eclipse.data.web.build import build
from eclipse.data.web.outcome import outcomes
from eclipse.data.web.scrub import _without, scrub
from eclipse.embeddings.pictures import decode_picture
from eclipse.errors import DataError
from eclipse.files import read_json, tree_digest


def _records(out):
    return {record.meta["fields"]["id"]: record for split in SPLITS for record in open_split(out, split)}


def _web(params: DataParams, **changes) -> DataParams:
    return params.model_copy(update={"web": WebParams(workers=1, **changes)})


def test_pictures_keep_their_bytes_and_carry_licence_and_source(tmp_path):
    samples = some()
    samples[3] = sample(3, picture(3, (40, 90), "PNG"))
    params = _web(write_shards(tmp_path / "in", samples))
    manifest = build(params, tmp_path / "out")
    records = _records(tmp_path / "out")
    assert manifest == load_manifest(tmp_path / "out")
    assert len(records) == sum(split.count for split in manifest.splits.values()) == 40
    for i, one in enumerate(samples):
        record = records[f"{i:032x}"]
        assert record.image == one["content"]
        assert record.caption == f"picture number {i}"
        assert record.meta["fields"]["license"] == "CC-BY"
        assert record.meta["fields"]["url"] == f"http://pictures.example/{i}.jpg"
    licences = read_json(tmp_path / "out/web.json")["licences"]
    assert sum(counts["CC-BY"] for counts in licences.values() if counts) == 40
    assert manifest.takedown is None
    assert "takedown" not in read_json(tmp_path / "out/manifest.json")


def test_order_of_arrival_and_workers_do_not_matter(tmp_path):
    samples = [*some(25), sample(40, picture(3), caption="the same picture again")]
    build(_web(write_shards(tmp_path / "a", samples)), tmp_path / "one")
    other = write_shards(tmp_path / "b", samples, backwards=True)
    build(other.model_copy(update={"web": WebParams(workers=2)}), tmp_path / "two")
    assert tree_digest(tmp_path / "one") == tree_digest(tmp_path / "two")


def test_faults_are_counted_by_reason_and_shared(tmp_path):
    samples = some(20)
    samples[1] = sample(1, picture(1)[:300])
    samples[2] = sample(2, caption=" \n ")
    samples[4] = sample(4, picture(5, (80, 70)))
    samples[6] = sample(6, original_width=900)
    samples[7] = sample(7, punsafe=0.9)
    params = _web(write_shards(tmp_path / "in", samples), min_side=1000, max_unsafe=0.5)
    samples[8:] = [sample(i, punsafe=0.1) for i in range(8, 20)]
    params = _web(write_shards(tmp_path / "in", samples), min_side=1000, max_unsafe=0.5)
    manifest = build(params.model_copy(update={"dedupe_distance": 4}), tmp_path / "out")
    # 0, 3, 5 and the broken ones say nothing of punsafe; metadata is looked at before captions and pictures
    assert manifest.dropped == {"max_unsafe": 1, "max_unsafe_unknown": 6, "min_side": 1}
    loose = build(_web(params).model_copy(update={"dedupe_distance": 4}), tmp_path / "out")
    assert loose.dropped == {"damaged_image": 1, "duplicate_image": 1, "empty_caption": 1}
    said = read_json(tmp_path / "out/web.json")
    assert said["records"] == {"found": 20, "kept": 17}
    assert said["shares"]["damaged_image"] == pytest.approx(0.05)


def test_subset_is_one_of_the_sample_and_follows_the_seed(tmp_path):
    params = _web(write_shards(tmp_path / "in", some()), subset=15)
    build(params, tmp_path / "a")
    ids = set(_records(tmp_path / "a"))
    assert len(ids) == 15
    build(_web(params, subset=20), tmp_path / "b")
    assert ids < set(_records(tmp_path / "b"))
    build(params.model_copy(update={"seed": 1}), tmp_path / "c")
    assert set(_records(tmp_path / "c")) != ids


def test_captions_of_one_picture_stay_in_one_split(tmp_path):
    samples = [sample(i, more_captions=[f"another of {i}", f"picture number {i}", f"third of {i}"]) for i in range(30)]
    build(_web(write_shards(tmp_path / "in", samples)), tmp_path / "out")
    where: dict[str, set[str]] = {}
    for split in SPLITS:
        for record in open_split(tmp_path / "out", split):
            where.setdefault(record.meta["fields"]["id"], set()).add(split)
    assert len(where) == 30
    assert all(len(splits) == 1 for splits in where.values())
    assert sum(split.count for split in load_manifest(tmp_path / "out").splits.values()) == 90


def test_a_benchmarks_pictures_are_left_out_and_listed(tmp_path):
    bench = tmp_path / "bench"
    (bench / "dog").mkdir(parents=True)
    (bench / "dog/00.jpg").write_bytes(picture(7, (300, 200)))  # the same picture, scaled
    (bench / "prompts.txt").write_text("Picture number 9.\nsomething else\n")
    params = write_shards(tmp_path / "in", some(20))
    manifest = build(_web(params, benchmarks=(bench,)), tmp_path / "out")
    assert manifest.dropped == {"benchmark_image": 1}
    [listed] = [json.loads(line) for line in (tmp_path / "out/audit.jsonl").read_text().splitlines()]
    assert (listed["id"], listed["is"]) == (f"{7:032x}", "bench/dog/00.jpg")
    assert read_json(tmp_path / "out/web.json")["benchmarks"] == {
        "pictures_left_out": 1,
        "captions_equal_to_prompts": 1,
    }
    save_benchmarks(load_benchmarks([bench]), tmp_path / "bench.parquet")
    build(_web(params, benchmarks=(tmp_path / "bench.parquet",)), tmp_path / "again")
    assert set(_records(tmp_path / "again")) == set(_records(tmp_path / "out"))
    with pytest.raises(DataError, match=r"nowhere: no folder"):
        load_benchmarks([tmp_path / "nowhere"])
    (tmp_path / "none").mkdir()
    (tmp_path / "none/prompts.txt").write_text(" \n")
    (tmp_path / "none/a.gif").write_bytes(b"GIF89a")
    with pytest.raises(DataError, match=r"none: holds no picture and no prompt \(.*\.png.*\.txt\)"):
        load_benchmarks([bench, tmp_path / "none"])


def test_takedown_round_trip(tmp_path):
    params = write_shards(tmp_path / "in", some(20))
    build(_web(params), tmp_path / "out")
    before = {shard.file: shard for split in load_manifest(tmp_path / "out").splits.values() for shard in split.shards}
    records = _records(tmp_path / "out")
    by_look = records[f"{11:032x}"].meta["phash"]
    listed = tmp_path / "takedown.txt"
    listed.write_text(
        f"# asked for on Monday\nhttps://PICTURES.example/4.jpg  # by its owner\n{5:032x}\n{6:064x}\n{by_look}\n"
    )
    web = WebParams(takedown=listed, workers=1)
    found = audit(tmp_path / "out", load_takedown(listed))
    assert {one.by for one in found} == {"url", "id", "sha256", "phash"}
    with pytest.raises(DataError, match=r"4 of its records are on the takedown list .*run the dataset stage again"):
        refuse_taken_down(tmp_path / "out", web)
    manifest = build(params.model_copy(update={"web": web}), tmp_path / "out")
    assert manifest.dropped == {"takedown": 4}
    assert set(_records(tmp_path / "out")) == set(records) - {f"{i:032x}" for i in (4, 5, 6, 11)}
    refuse_taken_down(tmp_path / "out", web)
    assert not audit(tmp_path / "out", load_takedown(listed))
    after = {shard.file: shard for split in manifest.splits.values() for shard in split.shards}
    touched = {one.shard for one in found}
    assert {file for file, shard in before.items() if after.get(file) != shard} == touched  # no other shard moved


def test_a_shard_that_is_not_finished_or_not_whole_is_refused(tmp_path):
    params = _web(write_shards(tmp_path / "in", some(20)))
    (tmp_path / "in/shards/00001_stats.json").unlink()
    with pytest.raises(DataError, match=r"00001\.tar: img2dataset has not finished it"):
        build(params, tmp_path / "out")
    (tmp_path / "in/shards/00001_stats.json").write_text("{}")
    (tmp_path / "in/shards/00001.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(DataError, match=r"00001\.tar: unreadable"):
        build(params, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("cut", [0, 100, 1500])
def test_half_a_shard_without_any_stats_is_refused(tmp_path, cut):
    params = _web(write_shards(tmp_path / "in", some(20), size=20))
    (tmp_path / "in/shards/00000_stats.json").unlink()
    tar = tmp_path / "in/shards/00000.tar"
    with tarfile.open(tar) as opened:
        member = list(opened)[30]
    tar.write_bytes(tar.read_bytes()[: member.offset + cut])
    with pytest.raises(DataError, match=r"00000\.tar: unreadable .*ingest again"):
        build(params, tmp_path / "out")


def test_what_shapes_a_killed_run_is_compared_by_content(tmp_path, monkeypatch):
    cells = tmp_path / "cells.yaml"
    cells.write_text("[picture number 1]\n")
    params = _web(write_shards(tmp_path / "in", some(40))).model_copy(update={"cells": cells})
    _interrupted(monkeypatch, "_publish", params, tmp_path / "out")
    cells.write_text("[picture number 1, picture number 2, picture number 3, picture number 5]\n")
    build(params, tmp_path / "out")
    build(params, tmp_path / "fresh")
    assert tree_digest(tmp_path / "out") == tree_digest(tmp_path / "fresh")


def test_scans_under_other_filters_are_not_used(tmp_path, monkeypatch):
    params = _web(write_shards(tmp_path / "in", some(20)))
    _interrupted(monkeypatch, "sort_records", params, tmp_path / "out")
    (tmp_path / "out.partial/identity.json").unlink()  # as where a run is killed while it removes the folder
    with pytest.raises(DataError, match=r"no record is left for training; dropped: \{'min_side': 20\}"):
        build(_web(params, min_side=2000), tmp_path / "out")


def _interrupted(monkeypatch, step, params, out):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(building, step, stop)
        with pytest.raises(KeyboardInterrupt):
            build(params, out)


def test_captions_are_counted_in_what_is_kept_and_what_is_not(tmp_path):
    samples = [sample(i, more_captions=[f"another of {i}", f"third of {i}"]) for i in range(20)]
    samples[3] = sample(3, picture(3)[:300], more_captions=["another of 3"])
    samples[4]["meta"]["original_width"] = 10
    build(_web(write_shards(tmp_path / "in", samples), min_side=100), tmp_path / "out")
    said = read_json(tmp_path / "out/web.json")
    assert said["records"] == {"found": 59, "kept": 54}
    assert said["shares"] == pytest.approx({"damaged_image": 2 / 59, "min_side": 3 / 59})


def test_what_opencv_can_read_and_pillow_cannot_never_reaches_an_encoder(tmp_path):
    content = bytearray(picture(0))
    for place, byte in ((512, 165), (535, 216), (652, 255), (655, 207), (697, 253)):  # OpenCV shows a picture of it
        content[place] = byte
    samples = [*some(10), sample(10, bytes(content))]
    manifest = build(_web(write_shards(tmp_path / "in", samples)), tmp_path / "out")
    assert manifest.dropped == {"damaged_image": 1}
    assert all(decode_picture(record.image, record.id).shape[2] == 3 for record in _records(tmp_path / "out").values())
    assert len(_records(tmp_path / "out")) == 10


def test_removed_from_the_shards_too_others_stay_and_copies_stay_out(tmp_path):
    samples = some(40)
    samples[30] = sample(30, picture(4, (300, 200)))  # another address of the same picture
    samples[5] = sample(5, more_captions=["another of 5"])
    samples[6] = sample(6, picture(6)[:300])  # is of no dataset, so nothing need stand for it
    params = write_shards(tmp_path / "in", samples).model_copy(update={"dedupe_distance": 4})
    build(_web(params), tmp_path / "before")
    listed = tmp_path / "takedown.txt"
    listed.write_text(f"http://pictures.example/4.jpg\n{5:032x}\n{6:064x}\n")
    tar = tmp_path / "in/shards/00000.tar"
    assert scrub(tmp_path / "in", load_takedown(listed)) == 3
    assert not any(told in tar.read_bytes() for told in (b"example/4.jpg", b"number 4", b"another of 5", picture(5)))
    assert outcomes(tmp_path / "in/shards")["reasons"] == {"taken_down": 3}
    for name, web in (("after", {"takedown": listed}), ("unlisted", {})):
        manifest = build(_web(params, **web), tmp_path / name)
        assert manifest.dropped == {"duplicate_image": 1, "takedown": 3}
        gone = {f"{i:032x}" for i in (4, 5)}
        assert _where(tmp_path / name) == {k: v for k, v in _where(tmp_path / "before").items() if k not in gone}
    strict = build(_web(params, takedown=listed, min_side=2000 // 2), tmp_path / "strict")
    assert strict.dropped["takedown"] == 3  # filters see of a removed record what they saw before
    once = tar.read_bytes()
    assert scrub(tmp_path / "in", load_takedown(listed)) == 0
    _without(tar, {"000000004", "000000005"}, tmp_path / "again.tar")  # as after a kill between tar and table
    assert _members(tmp_path / "again.tar") == _members(tar)
    assert tar.read_bytes() == once


def _where(out):
    return {r.meta["fields"]["id"]: (split, r.id, r.meta["group"]) for split in SPLITS for r in open_split(out, split)}


def _members(tar):
    with tarfile.open(tar) as opened:
        return sorted((member.name, opened.extractfile(member).read()) for member in opened)


def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(tmp_path, monkeypatch):
    params = _web(write_shards(tmp_path / "in", some(40)))
    build(params, tmp_path / "whole")
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom eclipse.config.data import DataParams\n"
        "from eclipse.data.web import build as b\nreal = b._make\n"
        "def slow(job):\n    real(job)\n    time.sleep(60 if job.name == 'train-00001' else 0)\n"
        "b._make = slow\nb.build(DataParams.model_validate_json(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, params.model_dump_json(), str(tmp_path / "out")],
        cwd=ROOT,
        env=os.environ | {"TQDM_DISABLE": "1"},
    )
    partial = tmp_path / "out.partial"
    _until(lambda: (partial / "train-00001/note.json").is_file() or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    made = []
    monkeypatch.setattr(building.Partial, "write", _noting(made, building.Partial.write))
    monkeypatch.setattr("eclipse.data.web.scan.decode_png", lambda *_: pytest.fail("scanned again"))
    build(params, tmp_path / "out")
    assert "train-00000" not in made
    assert "train-00001" not in made
    assert made
    assert tree_digest(tmp_path / "out") == tree_digest(tmp_path / "whole")
    assert not partial.exists()


def _noting(made, write):
    def wrapped(self, name, *args):
        made.append(name)
        write(self, name, *args)

    return wrapped


def _until(met, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_no_shards_at_all(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match="no tar shards there; run"):
        build(DataParams(source="img2dataset", path=Path(tmp_path / "in")), tmp_path / "out")
