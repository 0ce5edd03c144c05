"""Stopped anywhere and run again, a training ends in the same bits; states of something else are refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from eclipse.embeddings.loader import BatchOrder
from eclipse.errors import CheckpointError
from eclipse.train.interrupt import EX_TEMPFAIL, stop_on_sigterm
from eclipse.train.loop import Plan, Trainer
from tests.train.tiny import ALONE, RECORDS, Memory, embedded, fit, objective, settings, tiny_prior

STEPS = 7


class Killed(Exception):
    """Stands for the process's end."""


class Dying(Memory):
    """A source that fails at its ``count``-th batch."""

    def __init__(self, count: int) -> None:
        super().__init__(embedded())
        self.left = count

    def gather(self, index, *, device="cpu"):
        if self.left == 0:
            raise Killed
        self.left -= 1
        return super().gather(index, device=device)


def plan(path: Path | None, **changes) -> Plan:
    chosen = settings(steps=STEPS, ema=0.9, warmup=2, cycle=3, micro_batch=3, **changes)
    return Plan(chosen, objective(), 0, "digest", path)


def start(source: Memory, what: Plan) -> Trainer:
    return Trainer(tiny_prior(), source, BatchOrder(RECORDS, 8, 0), what, ALONE)


def same(left: torch.nn.Module, right: torch.nn.Module) -> bool:
    return all(torch.equal(value, right.state_dict()[name]) for name, value in left.state_dict().items())


@hypothesis_settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, STEPS - 1), max_size=3), st.integers(1, 4))
def test_dying_at_any_steps_changes_no_bit(tmp_path_factory, deaths: list[int], every: int):
    path = tmp_path_factory.mktemp("state") / "state.pt"
    what = plan(path, checkpoint_every=every)
    for count in deaths:
        try:
            start(Dying(count), what).run()
        except Killed:
            continue
    state = start(Memory(embedded()), what).run()
    whole = fit(plan(None))
    assert same(state.prior, whole.prior)
    forget = [{name: value for name, value in row.items() if name != "seconds"} for row in state.rows]
    assert forget == [{name: value for name, value in row.items() if name != "seconds"} for row in whole.rows]


def test_restores_random_state(tmp_path):
    path = tmp_path / "state.pt"
    fit(plan(path))
    torch.manual_seed(99)
    expected = torch.rand(3)
    torch.manual_seed(99)
    trainer = start(Memory(embedded()), plan(path))
    assert trainer.state.step == STEPS
    torch.manual_seed(99)
    trainer.state.save(path, "digest")
    torch.rand(7)
    start(Memory(embedded()), plan(path))
    assert torch.equal(torch.rand(3), expected)


def test_state_of_another_configuration_is_refused(tmp_path):
    path = tmp_path / "state.pt"
    fit(plan(path))
    with pytest.raises(CheckpointError, match=r"state.pt: digest digest .* another configuration .* delete it"):
        start(Memory(embedded()), replace(plan(path), digest="other"))


def test_state_without_average_is_refused(tmp_path):
    path = tmp_path / "state.pt"
    fit(plan(path))
    what = plan(path)
    what = replace(what, settings=what.settings.model_copy(update={"ema": 0.0}))
    with pytest.raises(CheckpointError, match="moving average"):
        start(Memory(embedded()), what)


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_damaged_state_is_refused(tmp_path, damage: bytes | None):
    path = tmp_path / "state.pt"
    fit(plan(path))
    path.write_bytes(path.read_bytes()[:500] if damage is None else damage)
    with pytest.raises(CheckpointError, match="state.pt: no readable training state .* delete it"):
        start(Memory(embedded()), plan(path))


def test_failed_write_keeps_the_old_state(tmp_path, monkeypatch):
    path = tmp_path / "state.pt"
    state = fit(plan(path))
    before = path.read_bytes()

    def half(value, file):
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(Exception, match="no space left"):
        state.save(path, "digest")
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_sigterm_finishes_the_step_and_leaves_a_state(tmp_path):
    path = tmp_path / "state.pt"

    class Terminating(Dying):
        def gather(self, index, *, device="cpu"):
            if self.left == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().gather(index, device=device)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        start(Terminating(3), plan(path, checkpoint_every=1000)).run()
    assert stopped.value.code == EX_TEMPFAIL == 75
    assert signal.getsignal(signal.SIGTERM) is before
    trainer = start(Memory(embedded()), plan(path))
    assert trainer.state.step == 3
    assert same(trainer.run().prior, fit(plan(None)).prior)


def test_second_sigterm_is_not_caught():
    with stop_on_sigterm() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.made
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


SCRIPT = """
import sys, time, torch
from pathlib import Path
from tests.train.test_state import plan, start
from tests.train.tiny import Memory, embedded
class Slow(Memory):
    def gather(self, index, *, device="cpu"):
        time.sleep(0.2)
        return super().gather(index, device=device)
torch.set_num_threads(1)
state = start(Slow(embedded()), plan(Path(sys.argv[1]), checkpoint_every=1)).run()
torch.save(state.prior.state_dict(), sys.argv[2])
"""


@pytest.mark.slow
def test_kill_9_and_again_is_bit_identical(tmp_path):
    state, weights = tmp_path / "state.pt", tmp_path / "weights.pt"
    command = [sys.executable, "-c", SCRIPT, str(state), str(weights)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)
    limit = time.monotonic() + 300
    while not state.exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not weights.exists()
    subprocess.run(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL, check=True)
    whole = fit(plan(None)).prior.state_dict()
    again = torch.load(weights, weights_only=True)
    assert all(torch.equal(again[name], whole[name]) for name in whole)
