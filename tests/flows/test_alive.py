"""Processes told apart from later ones with the same number, and zombies told from the living."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from uuid import uuid4

from prefect.client.schemas.objects import StateType

from flows import zombies
from flows.alive import Process, process_of


def _run(process: Process, state: str = "Running", deployment=None):
    return SimpleNamespace(
        id=uuid4(), name=state, tags=["x", process.tag], deployment_id=deployment, state=SimpleNamespace(name=state)
    )


class Client:
    """As much of Prefect's client as zombies ask for."""

    def __init__(self, runs):
        self.runs, self.set = runs, []

    def read_flow_runs(self, *, offset, limit, **_):
        return self.runs[offset : offset + limit]

    def set_flow_run_state(self, run_id, state, *, force):
        assert force
        self.set.append((run_id, state.name))


def test_the_present_process_lives_and_a_namesake_does_not():
    here = Process.current()
    assert here.is_here and here.lives
    assert process_of(["profile:x", here.tag]) == here
    assert Process(here.host, here.pid, here.started - 2).lives, "the clock was corrected"
    assert not Process(here.host, here.pid, here.started - 60).lives, "the number was reused"
    assert process_of(["process:", "process:host/x/1"]) is None


def test_one_that_ended_but_was_not_reaped_does_not_live():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    import psutil

    process = Process(Process.current().host, child.pid, int(psutil.Process(child.pid).create_time()))
    assert process.lives
    child.stdin.close()
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    assert not process.lives
    child.wait()


def test_only_the_dead_of_this_machine_are_closed():
    here = Process.current()
    gone = Process(here.host, here.pid, 1)
    far = Process("elsewhere", here.pid, 1)
    running, cancelling = _run(gone, deployment=uuid4()), _run(gone, "Cancelling", deployment=uuid4())
    by_hand = _run(gone, "Paused")
    client = Client([_run(here), _run(far), running, cancelling, by_hand])
    found = zombies.find(client)
    assert [zombie.id for zombie in found] == [running.id, cancelling.id, by_hand.id]
    zombies.close(client, found, restart=True)
    assert client.set == [
        (running.id, "Crashed"),
        (running.id, "AwaitingRetry"),
        (cancelling.id, "Cancelled"),
        (by_hand.id, "Crashed"),
    ]
    assert StateType.PAUSED in zombies._ALIVE
