"""The embed stage in several processes that meet in files: kills, damage, late comers."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from made_dataset import PARAMS, SETTINGS, embed_small, records, small_inputs, write_dataset

from eclipse.config import load_params
from eclipse.embeddings.meeting import Meeting
from eclipse.embeddings.writer import StoreWriter
from eclipse.errors import ConfigError, StoreError
from eclipse.files import read_json, tree_digest
from eclipse.models.clip import FrozenClip
from eclipse.stages.embed import run


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return small_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    embed_small(folder, inputs)
    return folder / "store"


def said_of(rank):
    return {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}


@pytest.fixture
def as_rank(inputs, tmp_path, monkeypatch):
    """Run process ``rank`` of two here; returns the shards that it wrote."""

    def start(rank, *overrides, inputs=inputs):
        original, written = StoreWriter.write_shard, []

        def write_shard(self, name, *rest):
            original(self, name, *rest)
            written.append(name)

        with monkeypatch.context() as patch:
            patch.setattr(StoreWriter, "write_shard", write_shard)
            for name, value in said_of(rank).items():
                patch.setenv(name, value)
            embed_small(tmp_path, inputs, *overrides)
        return written

    return start


FIRST, SECOND = ["train/shard-00000", "train/shard-00001"], ["train/shard-00002", "val_seen/shard-00000"]


def damage(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()  # the store of one piece may have the same file under another name
    path.write_bytes(bytes(content))


def check_whole(tmp_path, whole):
    assert tree_digest(tmp_path / "store") == tree_digest(whole)
    assert (tmp_path / "store.json").read_bytes() == whole.with_name("store.json").read_bytes()
    assert not list(tmp_path.glob("store.p*/*")), "the parts are removed"


def test_damaged_shard_of_a_finished_part_is_done_again_alone(whole, as_rank, tmp_path, caplog):
    assert as_rank(0) == FIRST
    damage(tmp_path / "store.parts-2/0/train/shard-00001.safetensors")
    assert as_rank(0) == FIRST[1:]
    assert "0/train/shard-00001.safetensors: wrong SHA-256" in caplog.text
    assert as_rank(1) == SECOND
    check_whole(tmp_path, whole)


def test_damage_that_another_process_finds_is_mended_by_the_next_run(whole, as_rank, tmp_path):
    as_rank(0)
    damage(tmp_path / "store.parts-2/0/train/shard-00000.parquet")
    with pytest.raises(StoreError, match=r"parts-2/0/train/shard-00000\.parquet: wrong SHA-256"):
        as_rank(1)
    assert not (tmp_path / "store").exists()
    assert as_rank(1) == []
    assert as_rank(0) == FIRST[:1]
    check_whole(tmp_path, whole)


def test_statistics_are_estimated_once_for_all(whole, as_rank, tmp_path, monkeypatch):
    as_rank(0)
    monkeypatch.setattr("eclipse.embeddings.extract.SAMPLE", 5)  # another machine, whose last bits differ
    as_rank(1)
    check_whole(tmp_path, whole)


def test_parts_left_under_other_statistics_are_done_again(inputs, as_rank, tmp_path, monkeypatch):
    as_rank(0)
    next((tmp_path / "store.parts-2").glob("static-*.safetensors")).unlink()
    monkeypatch.setattr("eclipse.embeddings.extract.SAMPLE", 5)
    with pytest.raises(StoreError, match="channel statistics are not those of the other parts"):
        as_rank(1)
    assert (as_rank(1), as_rank(0)) == ([], FIRST)
    embed_small(tmp_path, inputs, name="alone")
    assert tree_digest(tmp_path / "store") == tree_digest(tmp_path / "alone")


def no_encoding(patch):
    def encode(self, images):
        raise AssertionError("there was nothing left to embed")

    patch.setattr(FrozenClip, "encode_image", encode)


def test_late_process_leaves_a_published_store_alone(whole, as_rank, tmp_path, monkeypatch):
    as_rank(0)
    as_rank(1)
    check_whole(tmp_path, whole)
    (tmp_path / "store.json").unlink()
    with monkeypatch.context() as patch:
        no_encoding(patch)
        assert as_rank(0) == []
    check_whole(tmp_path, whole)
    damage(tmp_path / "store/train/shard-00001.parquet")
    assert (as_rank(1), as_rank(0)) == (SECOND, FIRST), "a damaged store is not taken for one"
    check_whole(tmp_path, whole)
    assert as_rank(0, "store.batch_size=4") == FIRST, "nor one of another configuration, which its header does not say"


def test_process_that_the_others_overtake_does_not_begin_again(whole, as_rank, tmp_path, monkeypatch):
    as_rank(0)
    original = Meeting.damaged

    def overtaken(self, number):
        found = original(self, number)
        if number == 0:
            assert as_rank(1) == SECOND
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Meeting, "damaged", overtaken)
        as_rank(0)
    check_whole(tmp_path, whole)


def test_twin_of_a_process_does_not_disturb_the_published_store(whole, as_rank, tmp_path, monkeypatch):
    """torchrun may start a process anew while the old one still writes."""
    as_rank(1)
    statics, begun = StoreWriter.write_statics, []

    def write_statics(self, *rest, **named):
        if not begun:
            begun.append(self.out.name)
            as_rank(0)
        return statics(self, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "write_statics", write_statics)
        as_rank(0)
    assert begun == ["0"]
    check_whole(tmp_path, whole)


@pytest.mark.parametrize("step", ["end", "clear"])
def test_kill_between_publishing_and_clearing_up(whole, as_rank, tmp_path, monkeypatch, step):
    as_rank(0)

    def killed(self, *rest):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Meeting, step, killed)
        with pytest.raises(KeyboardInterrupt):
            as_rank(1)
    with monkeypatch.context() as patch:
        no_encoding(patch)
        assert as_rank(0) == []
    check_whole(tmp_path, whole)


def words(inputs, out):
    paths = {"dataset": inputs["dataset"], "frozen": inputs["frozen"], "out": out, "metrics": f"{out}.json"}
    flags = [word for name, path in paths.items() for word in (f"--{name}", str(path))]
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    return ["embed", *flags, "--params", str(PARAMS), *settings]


@pytest.mark.slow
def test_torchrun_of_which_one_process_is_killed(inputs, as_rank, tmp_path):
    splits = {"train": records("train", 25), "val_seen": records("val_seen", 4)}
    bare = {**inputs, "dataset": write_dataset(tmp_path / "bare", splits, shard_size=3)}
    embed_small(tmp_path, bare, name="whole")
    out, parts = tmp_path / "store", tmp_path / "store.parts-2"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PARAMS.parent / "tests"), "HANGS": "1:2"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    agent = subprocess.Popen([*torchrun, __file__, *words(bare, out)], env=environment, stderr=subprocess.DEVNULL)
    try:
        progress, end = parts / "1.partial/progress.json", time.monotonic() + 120
        while not ((parts / "0").exists() and progress.exists() and len(read_json(progress)["shards"]) == 2):
            assert time.monotonic() < end and agent.poll() is None
            time.sleep(0.02)
        (second,) = (child for child in psutil.Process(agent.pid).children() if child.environ().get("RANK") == "1")
        second.kill()
        assert agent.wait(60) == 1
    finally:
        agent.terminate()
        agent.wait(60)
    assert not out.exists() and not Path(f"{out}.json").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in parts.glob("*/train/*.safetensors")}
    assert len(kept) == 5 + 2

    assert len(as_rank(1, inputs=bare)) == 11 - 5 - 2
    assert tree_digest(out) == tree_digest(tmp_path / "whole")
    assert Path(f"{out}.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert {name: (out / "train" / name).stat().st_mtime_ns for name in kept} == kept, "no shard was done twice"
    assert not parts.exists()


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}, "RANK=2 is outside 0 … 1"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "LOCAL_RANK.*start with torchrun"),
    ],
)
def test_environment_that_torchrun_did_not_make_is_refused(inputs, tmp_path, monkeypatch, said, wrong):
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=wrong):
        embed_small(tmp_path, inputs)
    assert not list(tmp_path.glob("store*"))


def test_part_given_by_hand_is_that_part_whatever_torchrun_says(inputs, tmp_path, monkeypatch):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    params = load_params(PARAMS, list(SETTINGS))
    summary = run(params, **inputs, out=tmp_path / "parts/0", metrics=tmp_path / "0.json", part="0/4")
    assert summary == {"part": "0/4", "shards": 1, "records": 10}


if __name__ == "__main__":
    # A process of the test above: the one of HANGS stops after so many shards, as if its machine were about to go.
    original, (rank, left) = StoreWriter.write_shard, (int(part) for part in os.environ["HANGS"].split(":"))

    def hang(self, *rest):
        global left
        if left == 0 and os.environ["RANK"] == str(rank):
            time.sleep(600)
        left -= 1
        original(self, *rest)

    StoreWriter.write_shard = hang
    from eclipse.cli import main

    sys.exit(main())
