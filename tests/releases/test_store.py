import json
import os
import subprocess
import sys

import pytest
from made_releases import NAMES, make_frozen, make_prior, registered

from eclipse.errors import CheckpointError, EclipseError
from eclipse.releases import Entry, Model, Releases, State

NAME = NAMES["eclipse"]
BESIDE = ("training.json", "README.md")
DAMAGED = ["", "{", "[]", '{"sequence": 1}', '{"sequence": 1, "frozen": null, "models": {"a": 3}}']


@pytest.fixture
def releases(tmp_path):
    return Releases(tmp_path / "releases")


def following(releases, version="1", hash_="a" * 64):
    return releases.state().following(NAME, Model("eclipse", Entry(version, hash_, "2026-11-21T00:00:00+00:00")))


def test_a_prior_is_kept_under_its_hash_with_all_that_came_with_it(releases, tmp_path):
    hash_ = make_prior(tmp_path / "prior")
    assert releases.add_prior(tmp_path / "prior", registered("3")) == hash_
    folder = releases.prior(hash_)
    assert folder.name == hash_
    for name in ("config.json", "diffusion_pytorch_model.safetensors", "training.json", "selection.json", "README.md"):
        assert (folder / name).read_bytes() == (tmp_path / "prior" / name).read_bytes()
    assert releases.registered(hash_) == registered("3")


@pytest.mark.parametrize("name", ["config.json", "diffusion_pytorch_model.safetensors", "training.json", "README.md"])
def test_a_changed_file_of_a_prior_is_refused_and_named_and_adding_it_again_mends_it(releases, tmp_path, name):
    hash_ = make_prior(tmp_path / "prior")
    releases.add_prior(tmp_path / "prior", registered("1"))
    folder = releases.prior(hash_)
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    with pytest.raises(CheckpointError, match=name if name in BESIDE else hash_[:12]):
        releases.prior(hash_)
    releases.add_prior(tmp_path / "prior", registered("1"))
    assert releases.prior(hash_) == folder


def test_a_change_of_the_same_length_and_time_is_noticed(releases, tmp_path):
    hash_ = make_prior(tmp_path / "prior")
    releases.add_prior(tmp_path / "prior", registered("1"))
    weights = releases.prior(hash_) / "diffusion_pytorch_model.safetensors"
    before = weights.stat()
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(CheckpointError, match=hash_[:12]):
        releases.prior(hash_)


def test_a_prior_that_is_there_only_gets_its_registration_renewed(releases, tmp_path):
    hash_ = make_prior(tmp_path / "prior")
    releases.add_prior(tmp_path / "prior", registered("1"))
    inode = (releases.prior(hash_) / "config.json").stat().st_ino
    releases.add_prior(tmp_path / "prior", registered("2"))
    assert releases.registered(hash_)["version"] == "2"
    assert (releases.prior(hash_) / "config.json").stat().st_ino == inode  # a server may be reading it


def test_an_unknown_prior_is_an_error_with_its_remedy(releases):
    with pytest.raises(CheckpointError, match="promote its version again"):
        releases.prior("a" * 64)


def test_frozen_models_are_kept_without_the_oracle_and_checked(releases, tmp_path):
    digest = releases.add_frozen(make_frozen(tmp_path / "frozen"))
    folder = releases.frozen(digest)
    assert sorted(path.name for path in folder.iterdir()) == ["clip", "decoder"]
    assert releases.add_frozen(tmp_path / "frozen") == digest
    (folder / "decoder/unet/more.safetensors").write_text("x")
    with pytest.raises(CheckpointError, match=digest[:12]):
        releases.frozen(digest)
    assert releases.add_frozen(tmp_path / "frozen") == digest and releases.frozen(digest)
    assert [path.name for path in (releases.folder / "frozen").iterdir()] == [digest]


@pytest.mark.parametrize("spoil", ["neither", "both"])
def test_frozen_models_need_one_decoder(releases, tmp_path, spoil):
    frozen = make_frozen(tmp_path / "frozen")
    if spoil == "both":
        (frozen / "decoder.json").write_text("{}")
    else:
        (frozen / "decoder").rename(tmp_path / "away")
    with pytest.raises(CheckpointError, match=r"either decoder/ or decoder\.json"):
        releases.add_frozen(frozen)
    assert not any((releases.folder / "frozen").iterdir())


def test_the_state_comes_back_as_it_was_written(releases):
    assert releases.state() == State()
    entry = Entry("1", "a" * 64, "2026-11-21T00:00:00+00:00", "b" * 64)
    state = State(1, "b" * 64, {NAME: Model("eclipse", entry, None, entry)})
    releases.write_state(state)
    assert releases.state() == state and releases.state().champions == {NAME: entry}


def test_a_state_that_does_not_follow_the_present_one_is_refused(releases):
    late = following(releases, "2")
    releases.write_state(following(releases, "1"))
    releases.write_state(following(releases, "3"))
    with pytest.raises(EclipseError, match="does not follow"):
        releases.write_state(late)
    assert releases.state().champions[NAME].version == "3"


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_state_is_refused_and_named(releases, text):
    releases.folder.mkdir()
    (releases.folder / "state.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"state\.json.*promote again"):
        releases.state()


def test_the_lock_is_held_by_one_and_freed_by_death(releases):
    releases.folder.mkdir()
    script = (
        f"import fcntl, time; file = open({str(releases.folder / '.lock')!r}, 'w')\n"
        "fcntl.flock(file, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(EclipseError, match=r"another promotion.*run again"), releases.lock(wait=0.2):
            pass
        holder.kill()
    with releases.lock(wait=0.2):
        pass


def test_the_lock_sweeps_what_a_killed_holder_left(releases):
    (releases.folder / "priors/.abc.12345678.part").mkdir(parents=True)
    (releases.folder / ".state.json.12345678.part").write_text("{")
    with releases.lock():
        assert [path.name for path in releases.folder.iterdir() if path.name != "priors"] == [".lock"]
        assert not any((releases.folder / "priors").iterdir())


def test_a_state_is_never_seen_half_written(releases):
    releases.write_state(following(releases))
    before = (releases.folder / "state.json").read_text()
    with pytest.raises(TypeError):
        releases.write_state(State(2, None, {NAME: Model("eclipse", Entry("2", object(), "now"))}))
    assert (releases.folder / "state.json").read_text() == before
    assert json.loads(before)["sequence"] == 1
