from __future__ import annotations

import json
import tarfile

import pytest
import webdataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eclipse.data.manifest import Manifest, Shard, Split, load_manifest, open_split, verify_shard
from eclipse.data.records import Record
from eclipse.data.shards import ShardWriter, read_shard
from eclipse.errors import DataError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


def _write(folder, records, shard_size=2):
    with ShardWriter(folder, "train", shard_size) as writer:
        for record in records:
            writer.add(record)
    return writer.shards


def _dataset(folder, records):
    shards = _write(folder, records)
    manifest = Manifest(source="world", seed=0, params_digest="x", splits={"train": Split.of(shards)})
    manifest.save(folder)
    return manifest


RECORDS = [Record(f"{i:04d}", f"a caption {i}", bytes([i]) * 700, {"key": i}) for i in range(5)]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(TEXT, st.binary(max_size=600), st.dictionaries(TEXT, TEXT, max_size=2)), max_size=5))
def test_what_is_written_is_read(tmp_path_factory, contents):
    folder = tmp_path_factory.mktemp("shards")
    records = [Record(f"{i:03d}", text, image, meta) for i, (text, image, meta) in enumerate(contents)]
    shards = _write(folder, records)
    assert [record for shard in shards for record in read_shard(folder / shard.file)] == records
    assert [shard.count for shard in shards] == [2] * (len(records) // 2) + [1] * (len(records) % 2)


def test_same_records_give_the_same_bytes(tmp_path):
    assert _write(tmp_path / "a", RECORDS) == _write(tmp_path / "b", RECORDS)


def test_webdataset_library_reads_the_shards(tmp_path):
    shards = _write(tmp_path, RECORDS)
    urls = [str(tmp_path / shard.file) for shard in shards]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [s["__key__"] for s in samples] == [r.id for r in RECORDS]
    assert [s["txt"].decode() for s in samples] == [r.caption for r in RECORDS]
    assert [s["png"] for s in samples] == [r.image for r in RECORDS]
    assert [json.loads(s["json"])["meta"] for s in samples] == [r.meta for r in RECORDS]


ANNOTATED = [
    Record(r.id, r.caption, r.image, r.meta, {"subject1.png": b"two" * i, "subject0.png": b"one"} if i % 2 else {})
    for i, r in enumerate(RECORDS)
]


def test_extra_parts_are_read_back_and_follow_the_others_in_order_of_their_names(tmp_path):
    (shard,) = _write(tmp_path, ANNOTATED, shard_size=9)
    assert list(read_shard(tmp_path / shard.file)) == ANNOTATED
    with tarfile.open(tmp_path / shard.file) as tar:
        second = [name.partition(".")[2] for name in tar.getnames() if name.startswith("0001.")]
    assert second == ["png", "json", "txt", "subject0.png", "subject1.png"]


def test_webdataset_library_reads_extra_parts(tmp_path):
    (shard,) = _write(tmp_path, ANNOTATED, shard_size=9)
    samples = list(webdataset.WebDataset([str(tmp_path / shard.file)], shardshuffle=False))
    assert [s["png"] for s in samples] == [r.image for r in RECORDS]
    assert [{k: v for k, v in s.items() if k.startswith("subject")} for s in samples] == [r.extras for r in ANNOTATED]


def test_records_without_extra_parts_have_the_bytes_that_they_always_had(tmp_path):
    (shard,) = _write(tmp_path, RECORDS, shard_size=9)
    assert shard.sha256[:16] == "44281d55707576db"


@pytest.mark.parametrize("name", ["png", "json", "subject0", "Subject0.png", "../x.png", "a b.png", "", ".png"])
def test_names_of_extra_parts_that_would_be_taken_for_something_else_are_refused(tmp_path, name):
    with pytest.raises(DataError, match="record 7: extra part"):
        _write(tmp_path, [Record("7", "a", b"x", {}, {name: b"y"})])


@pytest.mark.parametrize("ids", [["b", "a"], ["a", "a"], ["a.b"], ["a/b"], [""]])
def test_ids_that_readers_could_not_rely_on_are_refused(tmp_path, ids):
    with pytest.raises(DataError, match="record id"):
        _write(tmp_path, [Record(name, "a", b"x") for name in ids])


def test_open_split_goes_over_all_shards_in_order(tmp_path):
    manifest = _dataset(tmp_path, RECORDS)
    assert list(open_split(tmp_path, "train")) == RECORDS
    assert load_manifest(tmp_path) == manifest
    assert load_manifest(tmp_path).digest == manifest.digest
    with pytest.raises(DataError, match="'test_seen' is not in the dataset; it has train"):
        list(open_split(tmp_path, "test_seen"))


def test_one_changed_byte_is_named_before_any_of_its_records_is_read(tmp_path):
    manifest = _dataset(tmp_path, RECORDS)
    second = tmp_path / manifest.splits["train"].shards[1].file
    content = bytearray(second.read_bytes())
    content[600] ^= 1
    second.write_bytes(content)
    read = []
    with pytest.raises(DataError, match=r"train-00001\.tar: SHA-256 is .* the manifest says"):
        read.extend(open_split(tmp_path, "train"))
    assert len(read) <= 2


def test_missing_shard_is_named(tmp_path):
    shard = Shard(file="shards/gone.tar", count=1, sha256="0", bytes=1)
    with pytest.raises(DataError, match=r"gone\.tar: shard is missing"):
        verify_shard(tmp_path, shard)


def test_cut_off_shard_is_an_error_and_not_a_shorter_dataset(tmp_path):
    (shard,) = _write(tmp_path, RECORDS, shard_size=9)
    path = tmp_path / shard.file
    whole = path.read_bytes()
    content_end = len(whole.rstrip(b"\0"))
    for end in [0, 100, *range(512, content_end, 400), -(-content_end // 512) * 512]:
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"train-00000\.tar"):
            list(read_shard(path))


def test_damaged_header_is_an_error_and_not_the_end(tmp_path):
    (shard,) = _write(tmp_path, RECORDS, shard_size=9)
    content = bytearray((tmp_path / shard.file).read_bytes())
    content[content.index(b"0002.png")] = ord("9")
    (tmp_path / shard.file).write_bytes(content)
    with pytest.raises(DataError, match=r"train-00000\.tar: unreadable at 0001\.txt"):
        list(read_shard(tmp_path / shard.file))


def test_damaged_member_is_named(tmp_path):
    path = tmp_path / "a.tar"
    for contents, message in (({"x.png": b""}, "x.json is missing"), ({"x.png": b"", "x.json": b"{"}, "x.json is dam")):
        with tarfile.open(path, "w") as tar:
            for name, content in contents.items():
                file = tmp_path / name
                file.write_bytes(content)
                tar.add(file, name)
        with pytest.raises(DataError, match=rf"a\.tar: member {message}"):
            list(read_shard(path))


def test_manifest_of_another_shape_is_refused_by_field(tmp_path):
    manifest = _dataset(tmp_path, RECORDS)
    path = tmp_path / "manifest.json"
    raw = json.loads(path.read_text())
    path.write_text(json.dumps({**raw, "version": 99}))
    with pytest.raises(DataError, match="version 99"):
        load_manifest(tmp_path)
    del raw["splits"]["train"]["count"]
    path.write_text(json.dumps(raw))
    with pytest.raises(DataError, match=r"splits\.train\.count"):
        load_manifest(tmp_path)
    assert manifest.model_copy(update={"seed": 1}).digest != manifest.digest
