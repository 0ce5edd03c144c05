import hashlib
import json

import pytest

from eclipse.releases import Releases, State
from eclipse.releases.audit import append, faults, read_audit


@pytest.fixture
def releases(tmp_path):
    releases = Releases(tmp_path)
    for number in range(1, 4):
        append(releases, {"outcome": "promoted", "sequence": number, "by": "Ada"})
        releases.write_state(State(number))
    return releases


def lines(releases):
    return (releases.folder / "audit.jsonl").read_bytes().splitlines()


def write(releases, kept):
    (releases.folder / "audit.jsonl").write_bytes(b"".join(line + b"\n" for line in kept))


def test_each_line_holds_the_digest_of_the_one_before(releases):
    first, second, third = lines(releases)
    assert json.loads(first)["line_before"] == ""
    assert json.loads(second)["line_before"] == hashlib.sha256(first).hexdigest()
    assert json.loads(third)["line_before"] == hashlib.sha256(second).hexdigest()
    assert [entry["sequence"] for entry in read_audit(releases)] == [1, 2, 3] and faults(releases) == []


@pytest.mark.parametrize("changed", [0, 1])
def test_a_changed_line_is_told(releases, changed):
    kept = lines(releases)
    kept[changed] = kept[changed].replace(b"Ada", b"Bob")
    write(releases, kept)
    assert len(faults(releases)) == 1 and f"line {changed + 2} does not follow" in faults(releases)[0]


@pytest.mark.parametrize(("removed", "told"), [(0, "line 1"), (1, "line 2"), (2, "sequence-3")])
def test_a_removed_line_is_told_wherever_it_stood(releases, removed, told):
    kept = lines(releases)
    del kept[removed]
    write(releases, kept)
    assert any(told in fault for fault in faults(releases))


def test_an_audit_that_is_gone_is_told(releases):
    (releases.folder / "audit.jsonl").unlink()
    assert "sequence-3" in faults(releases)[0]


def test_a_torn_line_is_kept_told_and_followed(releases):
    path = releases.folder / "audit.jsonl"
    path.write_bytes(path.read_bytes() + b'{"outcome": "ref')
    append(releases, {"outcome": "refused"})
    assert len(lines(releases)) == 5 and lines(releases)[3] == b'{"outcome": "ref'
    assert [entry["outcome"] for entry in read_audit(releases)] == ["promoted"] * 3 + ["refused"]
    assert len(faults(releases)) == 1 and "line 4 is not whole" in faults(releases)[0]


def test_an_empty_folder_has_no_faults(tmp_path):
    assert faults(Releases(tmp_path)) == [] and read_audit(Releases(tmp_path)) == []
