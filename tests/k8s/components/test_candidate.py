"""What the canary's servers see: the candidates as if they were promoted, and nothing of the releases changed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_releases import NAMES, make_frozen, make_prior, registered

from eclipse.releases import Releases, resolve
from eclipse.releases.state import Entry, Model, State

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "k8s/components/canary/candidate.py"
AT = "2026-01-02T03:04:05+00:00"
PRIOR = NAMES["eclipse"]


def _script():
    spec = importlib.util.spec_from_file_location("candidate", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


candidate = _script()


@pytest.fixture
def releases(tmp_path) -> Releases:
    """A champion, version 1, and a candidate, version 2."""
    made = Releases(tmp_path / "releases")
    with made.lock():
        frozen = made.add_frozen(make_frozen(tmp_path / "frozen"))
        for version in (1, 2):
            make_prior(tmp_path / str(version), seed=version)
        hashes = [made.add_prior(tmp_path / str(n), registered(str(n))) for n in (1, 2)]
        champion, wanted = (Entry(str(n), hash_, AT, frozen) for n, hash_ in zip((1, 2), hashes, strict=True))
        made.write_state(State(1, frozen, {PRIOR: Model("eclipse", champion, None, wanted)}))
    return made


@pytest.fixture
def view(tmp_path, releases) -> Path:
    folder = tmp_path / "view"
    folder.mkdir()
    candidate.link(releases.folder, folder)
    return folder


def _served(view: Path, monkeypatch) -> tuple[str, str]:
    monkeypatch.setenv("ECLIPSE_RELEASES", str(view))
    (prior,) = resolve(ROOT).priors
    return prior.role, prior.version


def test_the_candidate_is_served_as_champion_with_every_digest_checked(releases, view, monkeypatch):
    assert candidate.follow(releases.folder, view)
    assert _served(view, monkeypatch) == ("champion", "2")


def test_the_releases_stay_as_they_are(releases, view, monkeypatch):
    before = {path: path.read_bytes() for path in releases.folder.rglob("*") if path.is_file()}
    candidate.follow(releases.folder, view)
    assert {path: path.read_bytes() for path in releases.folder.rglob("*") if path.is_file()} == before


def test_without_a_candidate_the_champion_is_served(releases, view, monkeypatch):
    candidate.follow(releases.folder, view)
    state = releases.state()
    releases.write_state(state.following(PRIOR, Model("eclipse", state.entry(PRIOR, "candidate"))))
    assert candidate.follow(releases.folder, view)
    assert _served(view, monkeypatch) == ("champion", "2")
    releases.write_state(releases.state().following(PRIOR, Model("eclipse", state.entry(PRIOR, "champion"))))
    assert candidate.follow(releases.folder, view)
    assert _served(view, monkeypatch) == ("champion", "1")


def test_an_unchanged_state_is_not_written_again(releases, view):
    candidate.follow(releases.folder, view)
    written = (view / "state.json").stat().st_mtime_ns
    assert not candidate.follow(releases.folder, view)
    assert (view / "state.json").stat().st_mtime_ns == written


def test_a_damaged_state_leaves_the_canary_as_it_is(releases, view, monkeypatch, caplog):
    candidate.follow(releases.folder, view)
    (releases.folder / "state.json").write_text("{")
    assert not candidate.follow(releases.folder, view)
    assert _served(view, monkeypatch) == ("champion", "2")
    assert "stays as it is" in caplog.text


@pytest.mark.parametrize("offered", [False, True])
def test_before_the_first_promotion_there_is_nothing_to_serve(releases, tmp_path, offered):
    entry = releases.state().entry(PRIOR, "candidate") if offered else None
    folder, view = tmp_path / "other", tmp_path / "view"
    view.mkdir()
    with Releases(folder).lock():
        Releases(folder).write_state(State(0, None, {PRIOR: Model("eclipse", candidate=entry)}))
    assert not candidate.follow(folder, view)
    assert not (view / "state.json").exists()


def test_the_command_of_the_manifest_follows(releases, tmp_path, monkeypatch):
    (tmp_path / "view").mkdir()
    words = [sys.executable, str(SCRIPT), f"--releases={releases.folder}", f"--view={tmp_path / 'view'}", "--every=0.1"]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 30
            while not (tmp_path / "view/state.json").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            process.terminate()
        said = process.stderr.read()
    assert _served(tmp_path / "view", monkeypatch) == ("champion", "2"), said
