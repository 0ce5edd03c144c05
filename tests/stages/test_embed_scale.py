"""The embed stage at scale: workers, lower precision, and the web's records."""

import io
import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_dataset import PARAMS, WORDS, annotated, embed_small, records, small_inputs, write_dataset
from PIL import Image

from eclipse.config import load_params
from eclipse.data.records import Record
from eclipse.data.subjects import subjects_of, with_subjects
from eclipse.embeddings import reading
from eclipse.embeddings.header import identity_of
from eclipse.embeddings.store import Store
from eclipse.embeddings.writer import StoreWriter
from eclipse.errors import DataError, StoreError
from eclipse.files import tree_digest
from eclipse.models.clip import FrozenClip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return small_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def serial(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serial")
    embed_small(folder, inputs, "store.workers=0")
    return folder / "store"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_bytes_do_not_depend_on_the_workers(inputs, serial, tmp_path, workers):
    embed_small(tmp_path, inputs, f"store.workers={workers}")
    assert tree_digest(tmp_path / "store") == tree_digest(serial)


def test_a_run_without_workers_is_gone_on_with_by_one_with_them(inputs, serial, tmp_path, monkeypatch):
    original, written = StoreWriter.write_shard, []

    def write_shard(self, name, *rest):
        if len(written) == 2:
            raise KeyboardInterrupt
        original(self, name, *rest)
        written.append(name)

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "write_shard", write_shard)
        with pytest.raises(KeyboardInterrupt):
            embed_small(tmp_path, inputs, "store.workers=0")
    kept = (tmp_path / "store.partial/train/shard-00000.safetensors").stat().st_mtime_ns
    embed_small(tmp_path, inputs, "store.workers=1")
    assert tree_digest(tmp_path / "store") == tree_digest(serial)
    assert (tmp_path / "store/train/shard-00000.safetensors").stat().st_mtime_ns == kept


def test_interrupt_while_writing_behind_leaves_finished_shards_alone(inputs, serial, tmp_path, monkeypatch):
    original, written = StoreWriter.write_shard, []

    def write_shard(self, name, *rest):
        if len(written) == 1:
            raise OSError(28, "No space left on device")
        original(self, name, *rest)
        written.append(name)

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "write_shard", write_shard)
        with pytest.raises(OSError, match="No space"):
            embed_small(tmp_path, inputs, "store.workers=1")
    progress = json.loads((tmp_path / "store.partial/progress.json").read_text())
    assert list(progress["shards"]) == ["train/shard-00000"]
    embed_small(tmp_path, inputs)
    assert tree_digest(tmp_path / "store") == tree_digest(serial)


@pytest.mark.parametrize("workers", [0, 1])
def test_damage_is_named_as_without_workers(inputs, tmp_path, workers):
    content = list(records("train", 25))
    content[21] = Record(content[21].id, content[21].caption, content[21].image[:60], content[21].meta)
    dataset = write_dataset(tmp_path / "bad", {"train": content})
    with pytest.raises(DataError, match=r"train-00002\.tar: record train-000021: image cannot be decoded"):
        embed_small(tmp_path, {**inputs, "dataset": dataset}, f"store.workers={workers}")
    progress = json.loads((tmp_path / "store.partial/progress.json").read_text())
    assert list(progress["shards"]) == ["train/shard-00000", "train/shard-00001"], "what came before it is kept"
    assert not (tmp_path / "store").exists()


@pytest.mark.slow
def test_killed_worker_ends_the_run_with_a_word(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "prepare", _die)
    with pytest.raises(StoreError, match=r"was killed.*store\.workers"):
        embed_small(tmp_path, inputs, "store.workers=1")


def _die(order):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("precision", "limit"), [("bf16", 2e-2), ("fp16", 2e-3)])
def test_lower_precision_is_said_in_the_header_and_near(inputs, serial, tmp_path, precision, limit):
    embed_small(tmp_path, inputs, f"store.precision={precision}", "store.tokens=fp16")
    embed_small(tmp_path, inputs, "store.tokens=fp16", name="plain")
    lowered, plain = Store.open(tmp_path / "store", "train"), Store.open(tmp_path / "plain", "train")
    assert lowered.header.precision == precision
    assert lowered.header.weights_hash == plain.header.weights_hash
    assert "precision" not in json.loads((tmp_path / "plain/header.json").read_text())
    found, wanted = lowered.gather(np.arange(25)), plain.gather(np.arange(25))
    for name in ("text_states", "prompt_embeds", "image_embeds", "control_embeds"):
        mine, truth = getattr(found, name), getattr(wanted, name)
        assert 0 < ((mine - truth).norm(dim=1) / truth.norm(dim=1)).mean() < limit, name


@pytest.mark.slow
def test_compiled_store_is_near_and_of_another_identity(inputs, tmp_path, monkeypatch):
    load = FrozenClip.load

    def eager(folder, **settings):
        return load(folder, **{**settings, "compile": "aot_eager" if settings["compile"] else False})

    monkeypatch.setattr(FrozenClip, "load", eager)
    torch._dynamo.reset()
    bare = {**inputs, "dataset": write_dataset(tmp_path / "bare", {"train": records("train", 8)})}
    embed_small(tmp_path, bare, "store.compile=true", "store.tokens=fp16", "store.image_dtype=fp32")
    embed_small(tmp_path, bare, "store.tokens=fp16", "store.image_dtype=fp32", name="plain")
    found = Store.open(tmp_path / "store", "train").gather(np.arange(8))
    wanted = Store.open(tmp_path / "plain", "train").gather(np.arange(8))
    torch.testing.assert_close(found.image_embeds, wanted.image_embeds, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.prompt_embeds, wanted.prompt_embeds, atol=1e-5, rtol=1e-4)


def test_identity_has_what_shapes_the_bytes_and_nothing_else():
    def identity(*overrides):
        return identity_of(load_params(PARAMS, list(overrides)).store, {"encoder": "x"})

    plain = identity()
    assert identity("store.workers=7") == plain
    others = ("precision=bf16", "compile=true", "tokens=fp16", "image_dtype=fp32", "batch_size=3")
    assert all(identity(f"store.{other}") != plain for other in others)
    assert set(plain["store"]) == {"tokens", "batch_size", "image_dtype"}, (
        "runs left by older programs are gone on with"
    )


def picture(width, height, kind, seed):
    content = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def web(split, count):
    rng = np.random.default_rng(3)
    for i in range(count):
        words = [*rng.choice(WORDS, 90 if i % 5 == 0 else 6)]
        caption = " ".join(words) + (" <end_of_text> more" if i == 3 else "")
        width, height = (int(side) for side in rng.integers(8, 90, 2))
        yield Record(f"{split}-{i:06d}", caption, picture(width, height, ("PNG", "JPEG")[i % 2], i), {})


@pytest.mark.parametrize("workers", [0, 2])
def test_the_webs_records_have_any_size_and_length(inputs, tmp_path, workers):
    dataset = write_dataset(tmp_path / "web", {"train": web("train", 12)}, source="img2dataset")
    overrides = (f"store.workers={workers}", "store.tokens=fp16", "store.image_dtype=fp32")
    summary = embed_small(tmp_path, {**inputs, "dataset": dataset}, *overrides)
    assert summary["splits"]["train"]["changed_captions"] == 4, "three too long, one with a marker"
    store = Store.open(tmp_path / "store", "train")
    assert store.lengths.max() == 77
    batch = store.gather(np.arange(12))
    clip = FrozenClip.load(inputs["frozen"] / "clip")
    for i, record in enumerate(web("train", 12)):
        image = np.asarray(Image.open(io.BytesIO(record.image)).convert("RGB"))
        torch.testing.assert_close(batch.image_embeds[i], clip.encode_image(image[None])[0], atol=1e-5, rtol=1e-4)
        text = clip.encode_text(clip.tokenize([record.caption.replace("<end_of_text>", " ")], truncate=True))
        torch.testing.assert_close(batch.prompt_embeds[i], text.prompt_embeds[0], atol=1e-5, rtol=1e-4)
    assert store.table()["caption"].to_pylist() == [r.caption for r in web("train", 12)], "the table keeps it whole"


def test_other_sources_have_no_count_of_changed_captions(serial):
    assert "changed_captions" not in json.loads(serial.with_name("store.json").read_text())["splits"]["train"]


def with_caption(record, before="", behind=""):
    """``record`` with more words around its caption, and its subjects where they are then."""
    moved = []
    for subject, content in subjects_of(record):
        a, b = subject.span
        moved.append((replace(subject, span=(a + len(before), b + len(before))), content))
    return with_subjects(record, before + record.caption + behind, moved)


@pytest.mark.parametrize(
    ("around", "said"),
    [
        ({"before": "<end_of_text> "}, "holds a marker of the tokenizer"),
        ({"behind": " red" * 80}, "do not fit the context"),
        ({"before": "red " * 80}, "do not fit the context"),
    ],
)
def test_annotated_records_of_the_web_keep_their_captions_whole(inputs, tmp_path, around, said):
    content = list(annotated("train", 3))
    content[1] = with_caption(content[1], **around)
    dataset = write_dataset(tmp_path / "web", {"train": content}, source="img2dataset+subjects")
    with pytest.raises(DataError, match=f"record train-000001: caption .*{said}"):
        embed_small(tmp_path, {**inputs, "dataset": dataset})


def test_nouns_of_the_webs_annotated_records_are_where_the_tokens_are(inputs, tmp_path):
    content = [with_caption(record, before="red ") for record in annotated("train", 6)]
    dataset = write_dataset(tmp_path / "web", {"train": content}, source="img2dataset+subjects")
    summary = embed_small(tmp_path, {**inputs, "dataset": dataset})
    assert "changed_captions" not in summary["splits"]["train"]
    clip, number = FrozenClip.load(inputs["frozen"] / "clip"), 0
    found = Store.open(tmp_path / "store", "train").gather(np.arange(6)).subjects
    for record in content:
        tokens = clip.tokenize([record.caption])[0]
        for subject, _ in subjects_of(record):
            noun = clip.tokenize([subject.word])[0]
            own = tokens[found.start[number] : found.start[number] + found.length[number]]
            assert own.tolist() == noun[1 : noun.argmax()].tolist()
            number += 1
    assert number == len(found)
