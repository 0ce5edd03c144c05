"""Results by content: what is not there, or not what it was, is no hit."""

from __future__ import annotations

import shutil

import pytest

from components.cache import Cache, content, key_of
from eclipse.errors import DataError


@pytest.fixture
def outputs(tmp_path):
    (tmp_path / "out/deep").mkdir(parents=True)
    (tmp_path / "out/deep/weights").write_bytes(b"w" * 1000)
    (tmp_path / "out/card").write_text("card")
    (tmp_path / "metrics").write_text("{}")
    return {"out": tmp_path / "out", "metrics": tmp_path / "metrics"}


@pytest.fixture
def cache(tmp_path, outputs):
    cache = Cache(tmp_path / "cache")
    cache.remember("k", outputs)
    return cache


@pytest.fixture
def again(tmp_path):
    return {"out": tmp_path / "again/out", "metrics": tmp_path / "again/metrics"}


def stored(cache, digest):
    return cache.folder / "objects" / digest[:2] / digest


def test_restores_the_same_bytes_as_copies_of_their_own(cache, outputs, again):
    assert cache.restore("k", again) is None
    assert {name: content(path) for name, path in again.items()} == {n: content(p) for n, p in outputs.items()}
    (again["out"] / "card").write_text("changed by a reader")
    assert cache.restore("k", again) is None
    assert (again["out"] / "card").read_text() == "card"


def test_unknown_keys_and_other_outputs_are_no_hit(cache, again):
    assert "nothing" in cache.restore("other", again)
    assert "nothing" in cache.restore("k", {"out": again["out"]})
    assert not again["out"].exists()


@pytest.mark.parametrize("name", ["out", "metrics"])
def test_what_is_gone_is_no_hit(cache, outputs, again, name):
    digest = content(outputs[name])
    found = stored(cache, digest)
    shutil.rmtree(found) if found.is_dir() else found.unlink()
    assert cache.restore("k", again) == f"its {name} {digest[:12]} is gone"
    assert not again["out"].exists() and not again["metrics"].exists()
    cache.remember("k", outputs)
    assert cache.restore("k", again) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda out: (out / "deep/weights").write_bytes(b"w" * 999 + b"x"),
        lambda out: (out / "deep/weights").unlink(),
        lambda out: (out / "more").touch(),
        lambda out: (out / "card").rename(out / "card2"),
    ],
)
def test_what_has_changed_is_no_hit_and_is_replaced(cache, outputs, again, change):
    digest = content(outputs["out"])
    change(stored(cache, digest))
    assert cache.restore("k", again) == f"its out {digest[:12]} has changed"
    cache.remember("k", outputs)
    assert cache.restore("k", again) is None


def test_a_damaged_entry_is_no_hit(cache, again):
    (cache.folder / "entries/k.json").write_text("{")
    assert "nothing" in cache.restore("k", again)


def test_equal_results_are_stored_once(cache, outputs):
    before = sorted((cache.folder / "objects").rglob("*"))
    cache.remember("k2", outputs)
    assert sorted((cache.folder / "objects").rglob("*")) == before


def test_content_is_that_of_names_and_bytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    (tmp_path / "b/__pycache__").mkdir()
    (tmp_path / "b/__pycache__/m.pyc").write_text("compiled here, not there")
    assert content(tmp_path / "a") == content(tmp_path / "b")
    (tmp_path / "b/file").rename(tmp_path / "b/file2")
    assert content(tmp_path / "a") != content(tmp_path / "b")
    with pytest.raises(DataError, match=r"none: no such file or folder"):
        content(tmp_path / "none")


def test_keys_know_integers_from_text_but_no_order():
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    assert key_of({"a": 1}) != key_of({"a": "1"})
