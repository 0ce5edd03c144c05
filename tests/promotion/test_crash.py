"""kill -9 at every step of a move: the old champion or the new one is fully in force, and the next command finishes."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from made_reviews import FROZEN, NAME
from made_selected import ROOT
from promotion_world import World, open_world

from eclipse.promotion import journal
from eclipse.releases import Releases, resolve
from eclipse.releases.audit import faults, read_audit
from eclipse.tracking.registry import Registry

pytestmark = pytest.mark.slow

EFFECTS = ((os, "replace"), (journal, "append"), (journal, "_remove"), (Registry, "set_alias"),
           (Registry, "delete_alias"), (Registry, "tag"))  # fmt: skip
"""Whatever changes the disk or MLflow for good."""


def killed_before(step, action):
    """Run ``action`` in a process that gets SIGKILL before its ``step``-th effect; False if it came to its end."""
    child = os.fork()
    if child == 0:
        count = 0

        def counted(function):
            def wrapper(*args, **kwargs):
                nonlocal count
                count += 1
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*args, **kwargs)

            return wrapper

        for owner, name in EFFECTS:
            setattr(owner, name, counted(getattr(owner, name)))
        try:
            action()
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def copy_of(source, folder, monkeypatch):
    folder.mkdir()
    return open_world(source, folder, monkeypatch)


def check_whole(releases, before, after):
    """One of the two is in force, with all its files."""
    champion = releases.state().entry(NAME, "champion").version
    served = resolve(releases.folder.parent)
    assert champion in (before, after) and [prior.version for prior in served.priors] == [champion]
    return champion


def crash_everywhere(source, folder, monkeypatch, *, act, before, after):
    """Kill ``act`` before each of its effects in a fresh copy; returns the champions found in force after the kills."""
    found = []
    for step in range(1, 100):
        world = copy_of(source, folder / str(step), monkeypatch)
        killed = killed_before(step, lambda: act(open_again(world.folder)))  # noqa: B023 (called at once)
        found.append(check_whole(world.releases, before, after))
        if not killed:
            return found
        act(world)
        assert world.roles() == {"champion": after, "previous": before}
        aliases = world.aliases()
        assert (aliases["champion"], aliases["previous"], aliases.get("candidate")) == (after, before, "3")
        made = [entry for entry in read_audit(world.releases) if entry["sequence"] == world.releases.state().sequence]
        assert len(made) == 1 and faults(world.releases) == []
        left = [path.name for path in world.releases.folder.rglob("*") if path.name.startswith(".")]
        assert left == [".lock"] and not (world.releases.folder / "journal.json").exists()
        shutil.rmtree(world.folder)
    raise AssertionError("no end")


def open_again(folder):
    """The same world with connections of its own, as a process has them."""
    return World(folder, Registry(f"sqlite:///{folder / 'mlflow.db'}"), Releases(folder / "releases"))


def test_a_promotion_killed_at_any_step_is_finished_by_the_next(first, tmp_path_factory, monkeypatch):
    first.review(2, champion=1)

    def act(world):
        world.promote(2)

    found = crash_everywhere(
        first.folder, tmp_path_factory.mktemp("crash"), monkeypatch, act=act, before="1", after="2"
    )
    assert found == sorted(found) and {"1", "2"} == set(found)


def test_a_rollback_killed_at_any_step_is_made_once(promoted, tmp_path_factory, monkeypatch):
    def act(world):
        world.rollback(version="1")

    found = crash_everywhere(
        promoted.folder, tmp_path_factory.mktemp("crash"), monkeypatch, act=act, before="2", after="1"
    )
    assert found == sorted(found, reverse=True) and {"1", "2"} == set(found)


def test_another_command_finishes_what_was_begun_first(first, tmp_path_factory, monkeypatch, caplog):
    first.review(2, champion=1)
    world = copy_of(first.folder, tmp_path_factory.mktemp("crash") / "one", monkeypatch)
    monkeypatch.setattr(Registry, "set_alias", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    child = os.fork()
    if child == 0:
        open_again(world.folder).promote(2)
    os.waitpid(child, 0)
    monkeypatch.undo()
    monkeypatch.chdir(world.folder)
    assert world.roles()["champion"] == "1"
    world.rollback()  # finishes the promotion to 2, then takes it back
    assert world.roles() == {"champion": "1", "previous": "2"} and world.releases.state().sequence == 3
    assert "a promote of eclipse-prior-eclipse-mini to version 2 had been cut off" in caplog.text
    outcomes = [(entry["outcome"], entry["to"], entry.get("recovered")) for entry in read_audit(world.releases)]
    assert outcomes == [("promoted", "1", None), ("promoted", "2", True), ("rolled-back", "1", None)]


def test_the_command_itself_killed_while_it_moves(first):
    first.review(2, champion=1)
    shutil.copyfile(ROOT / "params.yaml", first.folder / "params.yaml")
    words = ["--version", "2", "--by", "Ada", "--no-bundle", "--frozen", str(FROZEN)]
    command = [sys.executable, "-m", "eclipse", "promote", *words]
    begun, deadline = first.releases.folder / "journal.json", time.monotonic() + 300
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not begun.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)  # the move takes a few hundredths of a second
        process.kill()
    assert begun.exists() and check_whole(first.releases, "1", "2")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert first.roles() == {"champion": "2", "previous": "1"} and first.aliases()["champion"] == "2"
    assert "had been cut off" in done.stderr and "version 2 is the champion now (sequence-2)" in done.stdout
