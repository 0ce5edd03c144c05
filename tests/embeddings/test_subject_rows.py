"""Subjects in a store: every record gets its own back, in any order, and what is inconsistent is named."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_store import made_store
from safetensors.torch import load_file, save_file

from eclipse.config.params import StoreParams
from eclipse.embeddings.header import HEADER
from eclipse.embeddings.store import Store
from eclipse.errors import StoreError

COUNTS = [7, 1, 12]
N = sum(COUNTS)
DIM = 12


@pytest.fixture(scope="module", params=["fp16", "fp32"])
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores") / request.param
    params = StoreParams(image_dtype=request.param)
    return folder, made_store(folder, {"train": COUNTS, "val_seen": [3]}, params=params, subjects=True)


@pytest.fixture
def fresh(tmp_path):
    made_store(tmp_path / "store", {"train": COUNTS}, subjects=True)
    return tmp_path / "store"


def one_by_one(shards):
    """(embeds [s, P], spans [s, 2], control [P]) of every record, as they were given to the writer."""
    samples = []
    for shard in shards:
        subjects, first = shard.subjects, 0
        for i, count in enumerate(subjects.counts):
            rows = slice(first, first + count)
            samples.append((subjects.embeds[rows], subjects.spans[rows], subjects.control_embeds[i]))
            first += count
    return samples


@settings(max_examples=60)
@given(index=st.lists(st.integers(0, N - 1), max_size=30))
def test_gather_gives_each_record_its_own_subjects(made, index):
    folder, shards = made
    samples = one_by_one(shards["train"])
    store = Store.open(folder, "train")
    batch = store.gather(np.array(index, np.int64))
    subjects = batch.subjects
    counts = [len(samples[i][0]) for i in index]
    assert subjects.owner.tolist() == np.repeat(np.arange(len(index)), counts).tolist()
    spans = [tuple(span) for i in index for span in samples[i][1].tolist()]
    assert list(zip(subjects.start.tolist(), subjects.length.tolist(), strict=True)) == spans
    assert subjects.embeds.dtype == batch.control_embeds.dtype == torch.float32
    assert subjects.embeds.shape == (sum(counts), DIM)
    assert batch.control_embeds.shape == (len(index), DIM)
    if index:
        half = store.header.image_dtype == "fp16"
        for found, parts in ((subjects.embeds, 0), (batch.control_embeds[:, None], 2)):
            expected = torch.cat([samples[i][parts].reshape(-1, DIM) for i in index])
            expected = expected.half().float() if half else expected
            assert torch.equal(found.reshape(-1, DIM), expected)


def test_read_keeps_the_type_that_is_stored_and_to_keeps_all(made):
    folder, _ = made
    store = Store.open(folder, "train")
    raw = store.read(np.array([3, 9, 0]))
    dtype = {"fp16": torch.float16, "fp32": torch.float32}[store.header.image_dtype]
    assert raw.subjects.embeds.dtype == raw.control_embeds.dtype == dtype
    moved = store.dequantise(raw.to("cpu"))
    assert torch.equal(moved.subjects.start, raw.subjects.start)
    assert torch.equal(moved.control_embeds, raw.control_embeds.float())


def test_no_picture_is_the_stores_own(made, tmp_path):
    folder, _ = made
    assert torch.equal(Store.open(folder, "val_seen").nothing, torch.arange(DIM).float())
    made_store(tmp_path / "plain", {"train": [2]})
    with pytest.raises(StoreError, match="plain: holds no subjects"):
        _ = Store.open(tmp_path / "plain", "train").nothing


def test_a_store_without_subjects_is_what_it_was(tmp_path):
    made_store(tmp_path / "plain", {"train": [4]})
    assert "subjects" not in json.loads((tmp_path / "plain" / HEADER).read_text())
    assert set(load_file(tmp_path / "plain/static.safetensors")) == {"mean", "std", "bos"}
    assert set(load_file(tmp_path / "plain/train/shard-00000.safetensors")) == {
        "tokens", "scale", "offsets", "image_embeds", "prompt_embeds",
    }  # fmt: skip
    store = Store.open(tmp_path / "plain", "train")
    batch = store.gather(np.arange(4))
    assert store.header.subjects is False
    assert batch.subjects is None
    assert batch.control_embeds is None


def nobody_owns_the_first(tensors):
    tensors["subject_offsets"][1] = 0


def one_more_than_there_are(tensors):
    tensors["subject_offsets"][-1] += 1


def onto_eos(tensors):
    tensors["subject_spans"][0] = torch.tensor([1, int(tensors["offsets"][1])])


def onto_bos(tensors):
    tensors["subject_spans"][2, 0] = 0


def no_control(tensors):
    del tensors["control_embeds"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (nobody_owns_the_first, "subject_offsets do not cover the subjects"),
        (one_more_than_there_are, r"subject_embeds has shape \(\d+, 12\), the header says \(\d+, 12\)"),
        (onto_eos, "subject_spans leave their captions"),
        (onto_bos, "subject_spans leave their captions"),
        (no_control, r"control_embeds has shape None, the header says \(7, 12\)"),
    ],
)
def test_inconsistent_subjects_are_refused(fresh, damage, said):
    path = fresh / "train/shard-00000.safetensors"
    size = path.stat().st_size
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    damage(tensors)
    save_file(tensors, path)
    header = (fresh / HEADER).read_text()
    (fresh / HEADER).write_text(header.replace(f'"bytes": {size}', f'"bytes": {path.stat().st_size}'))
    with pytest.raises(StoreError, match=f"shard-00000.*{said}"):
        Store.open(fresh, "train")


def test_vectors_that_float16_cannot_hold_are_refused(tmp_path, monkeypatch):
    import made_store as maker

    made_embedded = maker.made_embedded

    def huge(*args, **kwargs):
        made = made_embedded(*args, **kwargs)
        made.subjects.embeds[0, 0] = 1e6
        return made

    monkeypatch.setattr(maker, "made_embedded", huge)
    with pytest.raises(StoreError, match=r"subject_embeds exceed float16; set store\.image_dtype=fp32"):
        made_store(tmp_path / "s", {"train": [2]}, subjects=True)
