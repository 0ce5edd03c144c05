"""The embed stage on a tiny dataset and a tiny CLIP of the real classes."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_dataset import annotated, records, tiny_clip, write_dataset
from PIL import Image
from safetensors.torch import load_file

from eclipse.config import load_params
from eclipse.data.control import canny
from eclipse.data.records import Record
from eclipse.data.subjects import subjects_of, with_subjects
from eclipse.embeddings.header import store_hash
from eclipse.embeddings.store import Store
from eclipse.embeddings.writer import StoreWriter
from eclipse.errors import ConfigError, DataError, StoreError
from eclipse.files import tree_digest
from eclipse.models.clip import FrozenClip
from eclipse.stages.embed import run

PARAMS = str(Path(__file__).parents[2] / "params.yaml")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    base = tmp_path_factory.mktemp("inputs")
    splits = {"train": records("train", 25), "val_seen": records("val_seen", 4), "test_seen": []}
    return {"dataset": write_dataset(base / "dataset", splits), "frozen": tiny_clip(base / "frozen")}


def params(*overrides):
    return load_params(Path(PARAMS), ["store.batch_size=8", "store.tokens=int8", *overrides])


def embed(tmp_path, inputs, *overrides, name="store"):
    return run(params(*overrides), **inputs, out=tmp_path / name, metrics=tmp_path / f"{name}.json")


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    summary = embed(folder, inputs)
    return folder / "store", summary


def test_store_holds_what_the_encoder_says_in_the_order_of_the_dataset(inputs, whole):
    folder, summary = whole
    clip = FrozenClip.load(inputs["frozen"] / "clip")
    store = Store.open(folder, "train", expect_weights_hash=clip.weights_hash)
    store.verify()
    originals = list(records("train", 25))
    assert store.table()["id"].to_pylist() == [r.id for r in originals]
    assert store.table()["caption"].to_pylist() == [r.caption for r in originals]
    assert json.loads(store.table()["meta"][24].as_py()) == {"key": "k24"}
    batch = store.gather(np.arange(25))
    text = clip.encode_text(clip.tokenize([r.caption for r in originals]))
    images = np.stack([np.asarray(Image.open(io.BytesIO(r.image))) for r in originals])
    assert torch.equal(batch.lengths, text.lengths)
    apart = (batch.text_states - text.text_states).norm(dim=1) / text.text_states.norm(dim=1)
    assert apart.max() < 0.01
    torch.testing.assert_close(batch.prompt_embeds, text.prompt_embeds, atol=5e-3, rtol=2e-3)
    torch.testing.assert_close(batch.image_embeds, clip.encode_image(images), atol=5e-3, rtol=2e-3)
    assert store.header.logit_scale == clip.logit_scale
    assert store.header.tokenizer_hash == clip.tokenizer_hash
    assert summary["splits"]["train"]["count"] == 25
    assert summary["splits"]["test_seen"]["count"] == 0
    assert summary["tokens_per_caption"] > 5
    assert 0 < summary["max_error"] <= 0.01


def test_same_inputs_same_bytes(inputs, whole, tmp_path):
    embed(tmp_path, inputs)
    assert tree_digest(tmp_path / "store") == tree_digest(whole[0])
    assert store_hash(tmp_path / "store") == store_hash(whole[0])


def interrupt_after(monkeypatch, shards):
    """Let ``shards`` shards be written, then stop as a kill would: whatever is on the disk stays."""
    original, written = StoreWriter.write_shard, []

    def write_shard(self, name, *rest):
        if len(written) == shards:
            raise KeyboardInterrupt
        original(self, name, *rest)
        written.append(name)

    monkeypatch.setattr(StoreWriter, "write_shard", write_shard)
    return written


def test_killed_and_run_again_gives_equal_bytes_without_doing_shards_twice(inputs, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            embed(tmp_path, inputs)
    assert not (tmp_path / "store").exists()
    assert not (tmp_path / "store.json").exists()
    damaged = tmp_path / "store.partial/train/shard-00001.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    with monkeypatch.context() as patch:
        written = interrupt_after(patch, 99)
        embed(tmp_path, inputs)
    assert written == ["train/shard-00001", "train/shard-00002", "val_seen/shard-00000"]
    assert tree_digest(tmp_path / "store") == tree_digest(whole[0])
    assert not (tmp_path / "store.partial").exists()


def test_work_of_another_encoder_or_setting_is_not_continued(inputs, whole, tmp_path, monkeypatch):
    other = {**inputs, "frozen": tiny_clip(tmp_path / "other", seed=1)}
    for foreign, overrides in ((other, ()), (inputs, ("store.image_dtype=fp32",))):
        with monkeypatch.context() as patch:
            interrupt_after(patch, 2)
            with pytest.raises(KeyboardInterrupt):
                embed(tmp_path, foreign, *overrides)
        embed(tmp_path, inputs)
        assert tree_digest(tmp_path / "store") == tree_digest(whole[0])


def test_changed_dataset_shard_is_named_and_leaves_the_old_store(inputs, whole, tmp_path):
    dataset = write_dataset(tmp_path / "dataset", {"train": records("train", 25)})
    embed(tmp_path, {**inputs, "dataset": dataset})
    before = tree_digest(tmp_path / "store")
    shard = dataset / "shards/train-00001.tar"
    content = bytearray(shard.read_bytes())
    content[700] ^= 1
    shard.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"train-00001\.tar.*SHA-256"):
        embed(tmp_path, {**inputs, "dataset": dataset})
    assert tree_digest(tmp_path / "store") == before


def one_bad(tmp_path, inputs, change):
    content = list(records("train", 3))
    content[1] = change(content[1])
    dataset = write_dataset(tmp_path / "bad", {"train": content})
    embed(tmp_path, {**inputs, "dataset": dataset})


def test_records_that_cannot_be_encoded_are_named(inputs, tmp_path):
    long = " ".join(["red"] * 90)
    with pytest.raises(DataError, match=r"train-000001.*do not fit the context"):
        one_bad(tmp_path, inputs, lambda r: Record(r.id, long, r.image, r.meta))
    with pytest.raises(DataError, match=r"train-000001: image cannot be decoded"):
        one_bad(tmp_path, inputs, lambda r: Record(r.id, r.caption, r.image[:60], r.meta))
    small = io.BytesIO()
    Image.new("RGB", (20, 10)).save(small, "PNG")
    with pytest.raises(DataError, match=r"train-000001: image is 20×10"):
        one_bad(tmp_path, inputs, lambda r: Record(r.id, r.caption, small.getvalue(), r.meta))
    assert not (tmp_path / "store").exists()


def test_embedding_that_is_not_finite_names_its_record(inputs, tmp_path, monkeypatch):
    encode = FrozenClip.encode_image

    def broken(self, images):
        z = encode(self, images)
        z[min(2, len(z) - 1), 5] = float("nan")
        return z

    monkeypatch.setattr(FrozenClip, "encode_image", broken)
    with pytest.raises(StoreError, match=r"train-000002: image_embeds hold NaN"):
        embed(tmp_path, inputs)


def test_text_encoder_that_is_not_causal_is_refused(inputs, tmp_path, monkeypatch):
    load = FrozenClip.load

    def bidirectional(folder, **settings):
        clip = load(folder, **settings)
        clip.model.attn_mask.zero_()
        return clip

    monkeypatch.setattr(FrozenClip, "load", bidirectional)
    with pytest.raises(StoreError, match="not causal"):
        embed(tmp_path, inputs)


def test_states_that_int8_cannot_hold_are_refused_and_fp16_takes_them(inputs, tmp_path, monkeypatch):
    encode = FrozenClip.encode_text

    def spiked(self, tokens):
        text = encode(self, tokens)
        text.text_states[text.lengths.cumsum(0) - 1, 3] = 1e4  # EOS alone, as no static statistic can foresee
        return text

    monkeypatch.setattr(FrozenClip, "encode_text", spiked)
    with pytest.raises(StoreError, match=r"train/shard-00000: int8.*store\.tokens=fp16"):
        embed(tmp_path, inputs)
    embed(tmp_path, inputs, "store.tokens=fp16")
    assert Store.open(tmp_path / "store", "train").header.max_error < 1e-3


@pytest.fixture(scope="module")
def subject_inputs(inputs, tmp_path_factory):
    splits = {"train": annotated("train", 25), "val_seen": annotated("val_seen", 4), "test_seen": []}
    return {**inputs, "dataset": write_dataset(tmp_path_factory.mktemp("annotated") / "dataset", splits)}


@pytest.fixture(scope="module")
def subject_store(subject_inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("subjects")
    return folder / "store", embed(folder, subject_inputs)


def test_subjects_and_edges_are_embedded_beside_their_words(subject_inputs, subject_store):
    folder, summary = subject_store
    clip = FrozenClip.load(subject_inputs["frozen"] / "clip")
    store = Store.open(folder, "train")
    store.verify()
    torch.testing.assert_close(store.nothing, clip.encode_nothing()[0])
    originals = list(annotated("train", 25))
    number = 0
    batch = store.gather(np.arange(25))
    for i, record in enumerate(originals):
        tokens = clip.tokenize([record.caption])[0]
        for subject, picture in subjects_of(record):
            image = np.array(Image.open(io.BytesIO(picture)))
            found = batch.subjects
            torch.testing.assert_close(found.embeds[number], clip.encode_image(image[None])[0], atol=5e-3, rtol=2e-3)
            assert found.owner[number] == i
            noun = clip.tokenize([subject.word])[0]
            own = tokens[found.start[number] : found.start[number] + found.length[number]]
            assert own.tolist() == noun[1 : noun.argmax()].tolist()
            number += 1
    assert number == len(batch.subjects)
    edges = np.stack([canny(np.asarray(Image.open(io.BytesIO(r.image)))) for r in originals])
    torch.testing.assert_close(batch.control_embeds, clip.encode_image(edges), atol=5e-3, rtol=2e-3)
    counts = np.bincount([len(subjects_of(r)) for r in originals], minlength=4)
    assert summary["splits"]["train"]["subjects"] == {str(n): int(c) for n, c in enumerate(counts) if c}
    assert len(summary["splits"]["train"]["subjects"]) > 1
    assert "subjects" not in summary["splits"]["test_seen"]


def test_text_of_annotated_records_is_stored_as_without_subjects(subject_inputs, subject_store, tmp_path):
    bare = [Record(r.id, r.caption, r.image, r.meta) for r in annotated("train", 25)]
    dataset = write_dataset(tmp_path / "bare", {"train": bare})
    summary = embed(tmp_path, {**subject_inputs, "dataset": dataset})
    assert "subjects" not in summary["splits"]["train"]
    for number in range(3):
        name = f"train/shard-{number:05d}.safetensors"
        plain, full = load_file(tmp_path / "store" / name), load_file(subject_store[0] / name)
        assert set(full) - set(plain) == {"subject_embeds", "subject_offsets", "subject_spans", "control_embeds"}
        assert all(torch.equal(full[key], plain[key]) for key in plain)


def test_killed_embedding_of_subjects_goes_on(subject_inputs, subject_store, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            embed(tmp_path, subject_inputs)
    embed(tmp_path, subject_inputs)
    assert tree_digest(tmp_path / "store") == tree_digest(subject_store[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: replace(r, extras={}), r"record train-000001: has no subjects, but .* first records have some"),
        (
            lambda r: replace(r, extras={"subject0.png": b"?"}),
            r"train-000001: subject0\.png cannot be decoded",
        ),
        (lambda r: replace(r, meta={}), r"train-000001: .*subject"),
        (lambda r: with_word(r, 1, -1), r"record train-000001: caption '.*': '\w+' cuts '\w+'"),
    ],
)
def test_wrong_annotations_name_their_record(inputs, tmp_path, change, said):
    content = list(annotated("train", 3))
    content[1] = change(one_subject(content[1]))
    dataset = write_dataset(tmp_path / "bad", {"train": content})
    with pytest.raises(DataError, match=rf"train-00000\.tar: .*{said}"):
        embed(tmp_path, {**inputs, "dataset": dataset})


def one_subject(record):
    return with_subjects(record, record.caption, subjects_of(record)[-1:])


def with_word(record, skip_front, skip_back):
    """``record`` with its subject's span cut short by characters."""
    (subject, picture), *_ = subjects_of(record)
    a, b = subject.span[0] + skip_front, subject.span[1] + skip_back
    return with_subjects(record, record.caption, [(replace(subject, word=record.caption[a:b], span=(a, b)), picture)])


def test_subjects_that_begin_late_are_refused(inputs, tmp_path):
    content = [*records("train", 2), *list(annotated("train", 3))[2:]]
    dataset = write_dataset(tmp_path / "mixed", {"train": content})
    with pytest.raises(DataError, match=r"train-000002: has subjects, but the dataset's first records have none"):
        embed(tmp_path, {**inputs, "dataset": dataset})


@pytest.mark.parametrize(("call", "what"), [(1, "control_embeds"), (2, "subject_embeds")])
def test_subject_embedding_that_is_not_finite_names_its_record(inputs, tmp_path, monkeypatch, call, what):
    content = [one_subject(record) for record in annotated("train", 3)]
    same = subjects_of(content[0])[0][1]
    content = [replace(record, extras={"subject0.png": same}) for record in content]
    dataset = write_dataset(tmp_path / "data", {"train": content})
    encode, calls = FrozenClip.encode_image, []

    def broken(self, images):
        z = encode(self, images)
        if len(calls) == call:
            z[1, 5] = float("nan")
        calls.append(len(images))
        return z

    monkeypatch.setattr(FrozenClip, "encode_image", broken)
    with pytest.raises(StoreError, match=f"train-000001: {what} hold NaN"):
        embed(tmp_path, {**inputs, "dataset": dataset})
    assert calls == [3, 3, 3], "pictures, edges, subjects of one size together"


def embed_part(tmp_path, inputs, part, *overrides):
    out = tmp_path / "parts" / part.partition("/")[0]
    return run(params(*overrides), **inputs, out=out, metrics=tmp_path / "part.json", part=part)


def put_together(tmp_path, inputs, *overrides):
    parts = {"out": tmp_path / "store", "metrics": tmp_path / "store.json", "parts": tmp_path / "parts"}
    return run(params(*overrides), **inputs, **parts)


@pytest.mark.parametrize("count", [1, 3, 6])
def test_parts_put_together_are_the_store_of_one_piece(inputs, whole, tmp_path, count):
    shards = [embed_part(tmp_path, inputs, f"{i}/{count}")["shards"] for i in range(count)]
    assert sum(shards) == 4 and max(shards) - min(shards) <= 1
    (tmp_path / "store.partial").mkdir()
    (tmp_path / "store.partial/progress.json").write_text("{}")
    for left in ("0.partial", ".0.ab12cd34.old"):  # by kills
        (tmp_path / "parts" / left).mkdir()
        (tmp_path / "parts" / left / "progress.json").write_text("{}")
    assert put_together(tmp_path, inputs) == whole[1]
    assert tree_digest(tmp_path / "store") == tree_digest(whole[0])
    assert not (tmp_path / "store.partial").exists()


def test_parts_with_subjects_and_a_killed_part(subject_inputs, subject_store, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            embed_part(tmp_path, subject_inputs, "0/2")
    with monkeypatch.context() as patch:
        written = interrupt_after(patch, 99)
        embed_part(tmp_path, subject_inputs, "0/2")
        embed_part(tmp_path, subject_inputs, "1/2")
    assert written == ["train/shard-00001", "train/shard-00002", "val_seen/shard-00000"]
    assert put_together(tmp_path, subject_inputs) == subject_store[1]
    assert tree_digest(tmp_path / "store") == tree_digest(subject_store[0])


def test_parts_that_are_no_whole_are_named_and_leave_the_old_store(inputs, whole, tmp_path):
    with pytest.raises(StoreError, match=r"parts: holds no parts of a store"):
        put_together(tmp_path, inputs)
    embed_part(tmp_path, inputs, "0/2")
    with pytest.raises(StoreError, match=r"shard train/shard-00002 and 1 more in no part; run embed --part"):
        put_together(tmp_path, inputs)
    embed_part(tmp_path, inputs, "1/2")
    put_together(tmp_path, inputs)
    table = tmp_path / "parts/1/train/shard-00002.parquet"
    table.unlink()
    table.write_bytes(b"?")
    with pytest.raises(StoreError, match=r"parts/1/train/shard-00002\.parquet: 1 bytes instead of"):
        put_together(tmp_path, inputs)
    embed_part(tmp_path, inputs, "1/2", "store.image_dtype=fp32")
    with pytest.raises(StoreError, match=r"parts/1: of another encoder, dataset or configuration"):
        put_together(tmp_path, inputs)
    assert tree_digest(tmp_path / "store") == tree_digest(whole[0])


def test_parts_under_other_statistics_are_refused(inputs, tmp_path, monkeypatch):
    embed_part(tmp_path, inputs, "0/2")
    monkeypatch.setattr("eclipse.embeddings.extract.SAMPLE", 5)
    embed_part(tmp_path, inputs, "1/2")
    with pytest.raises(StoreError, match=r"parts/1: its channel statistics are not those of the other parts"):
        put_together(tmp_path, inputs)


@pytest.mark.parametrize("part", ["2/2", "1", "-1/2", "0/0", "a/b"])
def test_parts_that_cannot_be_are_told_before_anything_is_read(tmp_path, part):
    nowhere = {"dataset": tmp_path / "none", "frozen": tmp_path / "none"}
    with pytest.raises(ConfigError, match=r"part '.*': write I/N with 0 ≤ I < N"):
        embed_part(tmp_path, nowhere, part)
    with pytest.raises(ConfigError, match="give one of them"):
        run(params(), **nowhere, out=tmp_path, metrics=tmp_path, part="0/1", parts=tmp_path)
