from __future__ import annotations

import pytest
from data.captioned import some, write_folder

from eclipse.config.data import WebParams
from eclipse.data.dedupe import fingerprint
from eclipse.data.images import decode_png
from eclipse.data.ingest import ingest
from eclipse.data.manifest import open_split
from eclipse.data.records import SPLITS
from eclipse.data.takedown import audit, load_takedown, refuse_taken_down
from eclipse.errors import ConfigError, DataError

_SUM = "ab" * 32


def _takedown(path, text):
    path.write_text(text)
    return load_takedown(path)


def test_order_and_comments_do_not_count(tmp_path):
    one = _takedown(tmp_path / "a", f"# why\nhttp://a.example/x?y=1#z\n\n{_SUM}   # theirs\n")
    two = _takedown(tmp_path / "b", f"{_SUM.upper()}\nhttps://A.example/x?y=1\n")
    assert one == two
    assert _takedown(tmp_path / "c", _SUM).digest != one.digest
    assert one.says(url="https://a.example/x?y=1", id=None, sha256=None) == "url"
    assert one.says(url="https://a.example/x?y=2", id=None, sha256=_SUM) == "sha256"
    assert one.says(url="https://a.example/X?y=1", id="ab" * 16, sha256=None) is None


def test_an_empty_list_is_none(tmp_path):
    assert not _takedown(tmp_path / "a", "# nothing yet\n")
    assert load_takedown(None).digest is None


@pytest.mark.parametrize("line", ["ab" * 15, "picture of a dog", "ftp://a.example/x"])
def test_what_is_no_entry_is_named(tmp_path, line):
    with pytest.raises(ConfigError, match=r"a, line 2: .* is no URL and has not the 64"):
        _takedown(tmp_path / "a", f"{_SUM}\n{line}\n")


def test_a_picture_is_known_by_its_look_in_a_dataset_that_carries_no_hashes(tmp_path):
    ingest(write_folder(tmp_path / "in", some(12)), tmp_path / "out")
    record = next(r for split in SPLITS for r in open_split(tmp_path / "out", split))
    look = fingerprint(decode_png(record.image)).structure ^ 0b101  # a little different
    (tmp_path / "list").write_text(f"{look:016x}\n")
    assert [one.id for one in audit(tmp_path / "out", load_takedown(tmp_path / "list"))] == [record.id]
    with pytest.raises(DataError, match="1 of its records are on the takedown list"):
        refuse_taken_down(tmp_path / "out", WebParams(takedown=tmp_path / "list"))
    refuse_taken_down(tmp_path / "out", WebParams())
