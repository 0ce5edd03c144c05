from __future__ import annotations

import errno
import io
import json
import os
import tarfile
from collections import Counter

import pytest
import yaml
from data.captioned import WRITERS, png, some, write_coco, write_folder, write_pairs, write_webdataset

from eclipse.data.dedupe import fingerprint
from eclipse.data.images import decode_png
from eclipse.data.ingest import ingest
from eclipse.data.manifest import load_manifest, open_split
from eclipse.data.records import SPLITS
from eclipse.data.split import normalise
from eclipse.errors import ConfigError, DataError, EclipseError
from eclipse.files import tree_digest
from eclipse.world.dataset import write_world


def _all(out):
    return [(split, record) for split in SPLITS for record in open_split(out, split)]


def _captions(out):
    return sorted(record.caption for _, record in _all(out))


def _with(params, **changes):
    return params.model_validate({**params.model_dump(), **changes})


def _refused(params, out, reason, message):
    """Without tolerance the message names the culprit and nothing is left; with it one record is counted."""
    with pytest.raises(DataError, match=message) as caught:
        ingest(params, out)
    assert "\n" not in str(caught.value)
    assert not out.exists()
    assert not list(out.parent.glob(".*"))
    assert ingest(_with(params, tolerate=True), out).dropped == {reason: 1}


@pytest.mark.parametrize("source", WRITERS)
def test_every_format_gives_all_captions_and_pictures(tmp_path, source):
    captioned = some()
    params = WRITERS[source](tmp_path / "in", captioned)
    manifest = ingest(params, tmp_path / "out")
    assert manifest == load_manifest(tmp_path / "out")
    assert _captions(tmp_path / "out") == sorted(text for _, _, text in captioned)
    assert sum(split.count for split in manifest.splits.values()) == 20
    assert not manifest.dropped
    for _, record in _all(tmp_path / "out"):
        assert decode_png(record.image).shape == (16, 16, 3)
        assert set(record.meta) == {"source", "group", "cell", "fields"}


def test_same_input_gives_the_same_bytes_in_every_format(tmp_path):
    for source, write in WRITERS.items():
        params = write(tmp_path / source, some(8))
        ingest(params, tmp_path / "a")
        ingest(params, tmp_path / "b")
        assert tree_digest(tmp_path / "a") == tree_digest(tmp_path / "b")


def test_a_moved_folder_gives_the_same_digest(tmp_path):
    first = ingest(write_folder(tmp_path / "here", some(8)), tmp_path / "a")
    second = ingest(write_folder(tmp_path / "there", some(8)), tmp_path / "b")
    assert first.digest == second.digest


def test_own_shards_can_be_ingested_again(tmp_path):
    params = write_folder(tmp_path / "in", some(9))
    ingest(params, tmp_path / "out")
    again = _with(params, source="webdataset", path=tmp_path / "out")
    ingest(again, tmp_path / "twice")
    assert _captions(tmp_path / "twice") == _captions(tmp_path / "out")


@pytest.mark.parametrize("source", WRITERS)
def test_truncated_image(tmp_path, source):
    captioned = some()
    captioned[3] = ("03.png", captioned[3][1][:200], "cut off")
    params = WRITERS[source](tmp_path / "in", captioned)
    _refused(params, tmp_path / "out", "damaged_image", r"03(\.png)?: image is damaged")
    assert "cut off" not in _captions(tmp_path / "out")


@pytest.mark.parametrize("source", WRITERS)
def test_empty_caption(tmp_path, source):
    captioned = some()
    captioned[3] = ("03.png", captioned[3][1], " \t ")
    _refused(
        WRITERS[source](tmp_path / "in", captioned), tmp_path / "out", "empty_caption", "03.*: its caption is empty"
    )


@pytest.mark.parametrize("source", ["folder", "coco"])
def test_missing_image(tmp_path, source):
    params = WRITERS[source](tmp_path / "in", some())
    next(p for p in (tmp_path / "in").rglob("07.png")).unlink()
    _refused(params, tmp_path / "out", "missing_image", r"07\.png: no such image")


def test_pairs_with_one_half_missing(tmp_path):
    params = write_pairs(tmp_path / "in", some())
    (tmp_path / "in/deep/05.png").unlink()
    _refused(params, tmp_path / "out", "missing_image", r"05\.txt: there is no image")
    params = write_pairs(tmp_path / "in2", some())
    (tmp_path / "in2/deep/05.txt").unlink()
    _refused(params, tmp_path / "out2", "missing_caption", r"05\.png: its caption 05\.txt is missing")


def test_caption_that_is_not_utf8(tmp_path):
    params = write_pairs(tmp_path / "in", some())
    (tmp_path / "in/deep/04.txt").write_bytes("caf\xe9".encode("latin-1"))
    _refused(params, tmp_path / "out", "caption_not_utf8", r"04\.png: its caption is not UTF-8")


@pytest.mark.parametrize(
    ("line", "reason", "message"),
    [
        (b'{"file_name": "a.png", "text": "caf\xe9"}', "caption_not_utf8", "line 21: not UTF-8"),
        (b'{"file_name": "00.png", "text": "\\ud800"}', "caption_not_utf8", "00.png: its caption is not UTF-8"),
        (b'{"file_name": "a.png"', "bad_metadata", "line 21: not valid JSON"),
        (b"[1]", "bad_metadata", "line 21: must be a JSON object"),
        (b'{"text": "a"}', "bad_metadata", "line 21: file_name and text must both be strings"),
        (b'{"file_name": "a.png", "text": 3}', "bad_metadata", "line 21: file_name and text"),
        (b'{"file_name": "00.png", "text": "picture number 0"}', "duplicate_id", r"00\.png: picture number 0 is there"),
        (b'{"file_name": "../secret.png", "text": "a"}', "outside_folder", r"'\.\./secret\.png' leads out"),
        (b'{"file_name": "/etc/hostname", "text": "a"}', "outside_folder", "leads out of the folder"),
        (b'{"file_name": "a\\\\..\\\\..\\\\b.png", "text": "a"}', "outside_folder", "leads out of the folder"),
        (b'{"file_name": "C:\\\\b.png", "text": "a"}', "outside_folder", "leads out of the folder"),
        (b'{"file_name": "", "text": "a"}', "outside_folder", "leads out of the folder"),
    ],
)
def test_bad_line_of_metadata(tmp_path, line, reason, message):
    params = write_folder(tmp_path / "in", some())
    (tmp_path / "secret.png").write_bytes(png(99))
    with (tmp_path / "in/metadata.jsonl").open("ab") as file:
        file.write(line + b"\n")
    _refused(params, tmp_path / "out", reason, message)
    assert len(_all(tmp_path / "out")) == 20


def test_folder_in_place_of_an_image(tmp_path):
    params = write_folder(tmp_path / "in", some())
    (tmp_path / "in/03.png").unlink()
    (tmp_path / "in/03.png").mkdir()
    _refused(params, tmp_path / "out", "unreadable_image", r"03\.png: cannot be read")


def test_links_out_of_the_folder_are_followed(tmp_path):
    params = write_folder(tmp_path / "in", some())
    (tmp_path / "cache").mkdir()
    os.replace(tmp_path / "in/03.png", tmp_path / "cache/abc")
    (tmp_path / "in/03.png").symlink_to(tmp_path / "cache/abc")
    assert not ingest(params, tmp_path / "out").dropped


def test_coco_annotation_without_image_and_broken_listing(tmp_path):
    params = write_coco(tmp_path / "in", some())
    content = json.loads(params.path.read_text())
    content["annotations"].append({"id": 500, "image_id": 77, "caption": "a"})
    params.path.write_text(json.dumps(content))
    _refused(params, tmp_path / "out", "missing_image", "annotation 500: image_id 77 is not listed")
    params.path.write_text('{"images": []}')
    with pytest.raises(DataError, match=r"captions\.json: not COCO captions \(KeyError\('annotations'\)"):
        ingest(_with(params, tolerate=True), tmp_path / "out2")
    with pytest.raises(DataError, match=r"data\.images: None: no such folder"):
        ingest(_with(params, images=None), tmp_path / "out2")


def test_several_captions_of_one_coco_image_stay_and_stay_together(tmp_path):
    params = write_coco(tmp_path / "in", some())
    content = json.loads(params.path.read_text())
    more = [{"id": 900 + i, "image_id": i, "caption": f"another view of {i}"} for i in range(20)]
    params.path.write_text(json.dumps({**content, "annotations": content["annotations"] + more}))
    assert not ingest(_with(params, evaluation_share=0.5), tmp_path / "out").dropped
    splits: dict[str, list[str]] = {}
    for split, record in _all(tmp_path / "out"):
        splits.setdefault(record.meta["source"], []).append(split)
    assert len(splits) == 20
    assert all(len(found) == 2 and len(set(found)) == 1 for found in splits.values())


def test_unreadable_shard_is_named_and_its_sound_records_are_kept_with_tolerance(tmp_path):
    params = write_webdataset(tmp_path / "in", some())
    shard = tmp_path / "in/shard-0.tar"
    (tmp_path / "in/shard-1.tar").write_bytes(b"not a tar file")
    _refused(params, tmp_path / "out", "unreadable_shard", r"shard-1\.tar: unreadable")
    assert len(_all(tmp_path / "out")) == 20
    (tmp_path / "in/shard-1.tar").unlink()
    shard.write_bytes(shard.read_bytes()[: 12 * 1024 + 100])
    with pytest.raises(DataError, match=r"shard-0\.tar: unreadable at"):
        ingest(params, tmp_path / "out2")
    assert ingest(_with(params, tolerate=True), tmp_path / "out2").dropped == {"unreadable_shard": 1}


def _add(shard, members):
    with tarfile.open(shard, "a") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize(
    ("members", "reason", "message"),
    [
        ({"x.txt": b"a"}, "missing_image", "x: has no png, jpg or webp"),
        ({"x.png": png(50)}, "missing_caption", "x: has no txt member"),
        ({"x.png": png(50), "x.json": b"{"}, "bad_metadata", r"x\.json: not valid JSON"),
        ({"x.png": png(50), "x.json": b'{"caption": 3}'}, "missing_caption", "no caption in its json"),
        ({"x.png": png(50), "x.txt": b"\xff"}, "caption_not_utf8", "x: its caption is not UTF-8"),
        ({"00.png": png(50), "00.txt": b"a"}, "duplicate_id", "00 is there twice"),
    ],
)
def test_bad_sample_in_a_shard(tmp_path, members, reason, message):
    params = write_webdataset(tmp_path / "in", some())
    _add(tmp_path / "in/shard-0.tar", members)
    _refused(params, tmp_path / "out", reason, message)


def test_caption_from_json_and_webdataset_paths(tmp_path):
    params = write_webdataset(tmp_path / "in", some())
    described = b'{"caption": "from json", "licence": "CC0"}'
    _add(tmp_path / "in/shard-0.tar", {"deep/00.png": png(60), "deep/00.json": described})
    ingest(params, tmp_path / "out")
    (record,) = [r for _, r in _all(tmp_path / "out") if r.caption == "from json"]
    assert record.meta["source"] == "shard-0.tar/deep/00"
    assert record.meta["fields"] == {"licence": "CC0"}


def test_duplicates_are_dropped_and_counted(tmp_path):
    captioned = [*some(), ("copy.png", png(4), "the same picture in other words")]
    params = write_folder(tmp_path / "in", captioned)
    assert ingest(params, tmp_path / "out").dropped == {"duplicate_image": 1}
    assert "the same picture in other words" not in _captions(tmp_path / "out")


def test_kept_duplicates_still_share_a_split(tmp_path):
    captioned = some() + [(f"copy{i}.png", png(i), f"copy of {i}") for i in range(20)]
    params = _with(write_folder(tmp_path / "in", captioned), dedupe_distance=-1, evaluation_share=0.5)
    assert not ingest(params, tmp_path / "out").dropped
    splits: dict[int, list[str]] = {}
    for split, record in _all(tmp_path / "out"):
        splits.setdefault(fingerprint(decode_png(record.image)).structure, []).append(split)
    assert Counter(len(found) for found in splits.values()) == {2: 20}
    assert all(len(set(found)) == 1 for found in splits.values())


def test_the_same_caption_never_crosses_splits(tmp_path):
    captioned = [(f"{i:02d}.png", png(i), f"{'a' if i % 2 else ' A'} thing {i // 4}{'.' * (i % 3)}") for i in range(60)]
    ingest(_with(write_folder(tmp_path / "in", captioned), evaluation_share=0.6), tmp_path / "out")
    splits: dict[str, set[str]] = {}
    for split, record in _all(tmp_path / "out"):
        splits.setdefault(normalise(record.caption), set()).add(split)
    assert len(splits) == 15
    assert all(len(found) == 1 for found in splits.values())
    assert len(set.union(*splits.values())) == 3


def test_held_out_cells_are_out_of_training(tmp_path):
    colours, things = ("red", "blue", "green", "black"), ("cat", "dog", "cow", "fox", "owl")
    names = [f"{colour} {thing}" for colour in colours for thing in things]
    captioned = [(f"{i:02d}.png", png(i), f"a {name}") for i, name in enumerate(names)]
    params = write_folder(tmp_path / "in", captioned)
    pattern = r"a (?P<colour>\w+) (?P<thing>\w+)"
    manifest = ingest(_with(params, hold_out=pattern, hold_out_share=0.4), tmp_path / "out")
    assert len(manifest.held_out) == 8
    for split, record in _all(tmp_path / "out"):
        assert (record.meta["cell"] in manifest.held_out) == split.endswith("held_out")
    assert manifest.splits["val_held_out"].count > 0
    assert manifest.splits["test_held_out"].count > 0
    everything = ingest(_with(params, hold_out="a red .*"), tmp_path / "out2")
    assert len(everything.held_out) == 5
    assert "red" not in " ".join(r.caption for r in open_split(tmp_path / "out2", "train"))


def test_held_out_captions_from_a_list(tmp_path):
    params = write_folder(tmp_path / "in", some())
    cells = tmp_path / "cells.yaml"
    cells.write_text(yaml.safe_dump(["Picture  number 3.", "picture number 7"]))
    manifest = ingest(_with(params, cells=cells), tmp_path / "out")
    assert manifest.held_out == ("picture number 3", "picture number 7")
    found = {r.caption for s, r in _all(tmp_path / "out") if s.endswith("held_out")}
    assert found == {"picture number 3", "picture number 7"}
    cells.write_text("a: 1")
    with pytest.raises(ConfigError, match=r"data\.cells: .*must be a YAML list"):
        ingest(_with(params, cells=cells), tmp_path / "out2")


def test_hold_out_that_matches_nothing_is_an_error(tmp_path):
    params = write_folder(tmp_path / "in", some())
    with pytest.raises(ConfigError, match=r"data\.hold_out: no caption .* matches 'zebra'"):
        ingest(_with(params, hold_out="zebra"), tmp_path / "out")


def test_dropped_fields_are_left_out_without_being_opened(tmp_path):
    params = write_folder(tmp_path / "in", some(6), group="Flags")
    lines = (tmp_path / "in/metadata.jsonl").read_text().splitlines()
    lines[1:] = [line.replace("Flags", "Food") for line in lines[1:]]
    (tmp_path / "in/metadata.jsonl").write_text("\n".join(lines))
    (tmp_path / "in/00.png").unlink()
    assert ingest(_with(params, drop={"group": ["Flags"]}), tmp_path / "out").dropped == {"excluded": 1}


def test_nothing_left_is_an_error(tmp_path):
    params = write_folder(tmp_path / "in", some(3), group="Flags")
    with pytest.raises(DataError, match=r"no record is left for training; dropped: \{'excluded': 3\}"):
        ingest(_with(params, drop={"group": ["Flags"]}), tmp_path / "out")


@pytest.mark.parametrize("source", WRITERS)
def test_missing_source_is_named(tmp_path, source):
    params = _with(write_folder(tmp_path / "in", some(3)), source=source, path=tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"data\.path: .*nowhere: no such file or folder"):
        ingest(params, tmp_path / "out")
    if source in ("folder", "webdataset"):
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match="empty.*: (no such file|there are no .tar shards)"):
            ingest(_with(params, path=tmp_path / "empty"), tmp_path / "out")


@pytest.mark.parametrize("write", [ingest, write_world])
@pytest.mark.parametrize("at", [1, 30])
def test_full_disk_leaves_what_was_there_and_nothing_half_written(tmp_path, monkeypatch, write, at):
    params = _with(write_folder(tmp_path / "in", some()), world={"train": 20, "evaluation": 2}, shard_size=7)
    write(params, tmp_path / "out")
    before = tree_digest(tmp_path / "out")
    original = tarfile.TarFile.addfile
    calls = []

    def full(self, *args):
        calls.append(args)
        if len(calls) > at:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(self, *args)

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(EclipseError, match="out: no space left on the device"):
        write(_with(params, shard_size=5), tmp_path / "out")
    assert tree_digest(tmp_path / "out") == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]
