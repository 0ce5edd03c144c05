"""Reading a store: what was written comes back in any order, and damage is named."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_store import HASH, made_store
from safetensors.torch import load_file, save_file

from eclipse.config.params import StoreParams
from eclipse.embeddings.batch import ragged_rows, starts_of
from eclipse.embeddings.header import HEADER, store_hash
from eclipse.embeddings.store import Store
from eclipse.errors import StoreError

COUNTS = [7, 1, 12]
N = sum(COUNTS)


@pytest.fixture(scope="module", params=["int8", "fp16"])
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores") / request.param
    return folder, made_store(folder, {"train": COUNTS, "val_seen": [3]}, params=StoreParams(tokens=request.param))


@pytest.fixture
def fresh(tmp_path):
    made_store(tmp_path / "store", {"train": COUNTS, "empty": []})
    return tmp_path / "store"


def naive(folder, split, shards):
    """Each record's tensors, read one by one and in plain arithmetic."""
    static = load_file(folder / "static.safetensors")
    samples = []
    for i in range(len(shards)):
        stored = load_file(folder / split / f"shard-{i:05d}.safetensors")
        for k in range(len(stored["offsets"]) - 1):
            rows = slice(int(stored["offsets"][k]), int(stored["offsets"][k + 1]))
            body = stored["tokens"][rows].float()
            if "scale" in stored:
                body = (
                    torch.sinh(body * math.asinh(5) / 127) * stored["scale"][rows].float()[:, None] * static["std"]
                    + static["mean"]
                )
            states = torch.cat([static["bos"].float()[None], body])
            samples.append((states, stored["prompt_embeds"][k].float(), stored["image_embeds"][k].float()))
    return samples


@settings(max_examples=60, deadline=None)
@given(index=st.lists(st.integers(0, N - 1), max_size=30))
def test_gather_equals_reading_one_by_one(made, index):
    folder, shards = made
    samples = naive(folder, "train", shards["train"])
    batch = Store.open(folder, "train").gather(np.array(index, np.int64))
    assert len(batch) == len(index)
    assert batch.lengths.tolist() == [len(samples[i][0]) for i in index]
    assert batch.text_states.dtype == batch.prompt_embeds.dtype == torch.float32
    if index:
        torch.testing.assert_close(batch.text_states, torch.cat([samples[i][0] for i in index]))
        assert torch.equal(batch.prompt_embeds, torch.stack([samples[i][1] for i in index]))
        assert torch.equal(batch.image_embeds, torch.stack([samples[i][2] for i in index]))


def test_what_comes_back_is_what_went_in(made):
    folder, shards = made
    store = Store.open(folder, "train", expect_weights_hash=HASH)
    batch = store.gather(np.arange(N))
    rows = ragged_rows(starts_of(store.lengths) + 1, store.lengths - 1)
    original = torch.cat([shard.states for shard in shards["train"]])
    apart = (batch.text_states[torch.from_numpy(rows)] - original).norm(dim=1) / original.norm(dim=1)
    assert 1e-5 < apart.max() <= store.header.max_error * 1.001 < 0.01
    images = torch.cat([shard.image_embeds for shard in shards["train"]])
    torch.testing.assert_close(batch.image_embeds, images, atol=2e-3, rtol=1e-3)
    assert store.table()["id"].to_pylist()[7:9] == ["train-1-0000", "train-2-0000"]
    assert json.loads(store.table()["meta"][8].as_py()) == {"n": 0}
    store.verify()
    assert len(Store.open(folder, "val_seen")) == 3


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 6)), max_size=12))
def test_ragged_rows(pieces):
    starts = np.array([p[0] for p in pieces], np.int64)
    lengths = np.array([p[1] for p in pieces], np.int64)
    expected = [row for start, length in pieces for row in range(start, start + length)]
    assert ragged_rows(starts, lengths).tolist() == expected


def test_full_precision_vectors_on_request(tmp_path):
    made = made_store(tmp_path / "s", {"train": [4]}, params=StoreParams(image_dtype="fp32"))
    batch = Store.open(tmp_path / "s", "train").gather(np.arange(4))
    assert torch.equal(batch.image_embeds, made["train"][0].image_embeds)


def test_wrong_encoder_split_and_index_are_refused(fresh):
    with pytest.raises(StoreError, match=r"another encoder \(made, weights aaaaaaaaaaaa, expected bbbb"):
        Store.open(fresh, "train", expect_weights_hash="b" * 64)
    with pytest.raises(StoreError, match=r"another tokenizer \(aaaaaaaaaaaa, expected cccccccccccc"):
        Store.open(fresh, "train", expect_weights_hash=HASH, expect_tokenizer_hash="c" * 64)
    assert len(Store.open(fresh, "train", expect_weights_hash=HASH, expect_tokenizer_hash=HASH)) == N
    with pytest.raises(StoreError, match=r"no split 'test'; it holds empty, train"):
        Store.open(fresh, "test")
    with pytest.raises(StoreError, match="holds no records"):
        Store.open(fresh, "empty")
    for bad in ([N], [-1], [[0]]):
        with pytest.raises(StoreError, match=f"{N} records"):
            Store.open(fresh, "train").read(np.array(bad))


@pytest.mark.parametrize("file", ["train/shard-00002.safetensors", "train/shard-00001.parquet", "static.safetensors"])
def test_truncated_and_missing_files_are_named_on_opening(fresh, file):
    path = fresh / file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreError, match=f"{file}.*damaged"):
        Store.open(fresh, "train")
    path.unlink()
    with pytest.raises(StoreError, match=f"{file}: no such file"):
        Store.open(fresh, "train")


@pytest.mark.parametrize("file", ["train/shard-00002.safetensors", "train/shard-00001.parquet", "static.safetensors"])
def test_one_flipped_bit_is_found_by_verify(fresh, file):
    content = bytearray((fresh / file).read_bytes())
    content[-1] ^= 1
    (fresh / file).write_bytes(bytes(content))
    store = Store.open(fresh, "train")
    with pytest.raises(StoreError, match=f"{file}: wrong SHA-256"):
        store.verify()


def test_sizes_that_disagree_with_the_header_are_refused(fresh):
    header = json.loads((fresh / HEADER).read_text())
    (fresh / HEADER).write_text(json.dumps({**header, "projection_dim": 13}))
    with pytest.raises(StoreError, match=r"image_embeds has shape \(7, 12\), the header says \(7, 13\)"):
        Store.open(fresh, "train")
    (fresh / HEADER).write_text(json.dumps({**header, "version": 99}))
    with pytest.raises(StoreError, match="version 99"):
        Store.open(fresh, "train")
    del header["logit_scale"]
    (fresh / HEADER).write_text(json.dumps(header))
    with pytest.raises(StoreError, match="logit_scale"):
        Store.open(fresh, "train")
    (fresh / HEADER).unlink()
    with pytest.raises(StoreError, match="no such file"):
        Store.open(fresh, "train")


def test_offsets_that_skip_tokens_are_refused(fresh):
    path = fresh / "train/shard-00000.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    tensors["offsets"][1:-1] = 0
    save_file(tensors, path)
    with pytest.raises(StoreError, match="offsets"):
        Store.open(fresh, "train")


def test_store_hash_follows_the_content(tmp_path):
    made_store(tmp_path / "a", {"train": [3]})
    made_store(tmp_path / "b", {"train": [3]})
    made_store(tmp_path / "c", {"train": [4]})
    assert store_hash(tmp_path / "a") == store_hash(tmp_path / "b") != store_hash(tmp_path / "c")
