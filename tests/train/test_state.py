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

from eclipse.errors import CheckpointError
from eclipse.train.interrupt import EX_TEMPFAIL, stop_on_sigterm
from eclipse.train.loop import Plan
from tests.train.tiny import METHODS, Memory, embedded, fit, settings, trainer

STEPS = 7


class Killed(Exception):
    """Stands for the process's end."""


class Dying(Memory):
    """A source that fails at its ``count``-th batch."""

    def __init__(self, count: int) -> None:
        super().__init__(embedded(), subjects=True)
        self.left = count

    def gather(self, index, *, device="cpu"):
        if self.left == 0:
            raise Killed
        self.left -= 1
        return super().gather(index, device=device)


def plan(path: Path | None, method: str = "eclipse", **changes) -> Plan:
    chosen = settings(steps=STEPS, ema=0.9, warmup=2, cycle=3, micro_batch=3, **changes)
    return Plan(chosen, METHODS[method], 0, "digest", path)


def same(left: torch.nn.Module, right: torch.nn.Module) -> bool:
    return all(torch.equal(value, right.state_dict()[name]) for name, value in left.state_dict().items())


@hypothesis_settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, STEPS - 1), max_size=3), st.integers(1, 4), st.sampled_from(list(METHODS)))
def test_dying_at_any_steps_changes_no_bit(tmp_path_factory, deaths: list[int], every: int, method: str):
    path = tmp_path_factory.mktemp("state") / "state.pt"
    what = plan(path, method, checkpoint_every=every)
    for count in deaths:
        try:
            trainer(what, Dying(count)).run()
        except Killed:
            continue
    state = fit(what)
    whole = fit(plan(None, method))
    assert same(state.prior, whole.prior)
    forget = [{name: value for name, value in row.items() if name != "seconds"} for row in state.rows]
    assert forget == [{name: value for name, value in row.items() if name != "seconds"} for row in whole.rows]


def test_restores_random_state(tmp_path):
    path = tmp_path / "state.pt"
    fit(plan(path))
    torch.manual_seed(99)
    expected = torch.rand(3)
    torch.manual_seed(99)
    resumed = trainer(plan(path))
    assert resumed.state.step == STEPS
    torch.manual_seed(99)
    resumed.state.save(path, "digest")
    torch.rand(7)
    trainer(plan(path))
    assert torch.equal(torch.rand(3), expected)


def test_state_of_another_configuration_is_refused(tmp_path):
    path = tmp_path / "state.pt"
    fit(plan(path))
    with pytest.raises(CheckpointError, match=r"state.pt: digest digest .* another configuration .* delete it"):
        trainer(replace(plan(path), digest="other"))


def test_state_without_average_is_refused(tmp_path):
    path = tmp_path / "state.pt"
    fit(plan(path))
    what = plan(path)
    what = replace(what, settings=what.settings.model_copy(update={"ema": 0.0}))
    with pytest.raises(CheckpointError, match="moving average"):
        trainer(what)


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_damaged_state_is_refused(tmp_path, damage: bytes | None):
    path = tmp_path / "state.pt"
    fit(plan(path))
    path.write_bytes(path.read_bytes()[:500] if damage is None else damage)
    with pytest.raises(CheckpointError, match="state.pt: no readable training state .* delete it"):
        trainer(plan(path))


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
        trainer(plan(path, checkpoint_every=1000), Terminating(3)).run()
    assert stopped.value.code == EX_TEMPFAIL == 75
    assert signal.getsignal(signal.SIGTERM) is before
    resumed = trainer(plan(path))
    assert resumed.state.step == 3
    assert same(resumed.run().prior, fit(plan(None)).prior)


def test_second_sigterm_is_not_caught():
    with stop_on_sigterm() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.made
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


SCRIPT = """
import sys, time, torch
from pathlib import Path
from tests.train.test_state import plan
from tests.train.tiny import Memory, embedded, trainer
class Slow(Memory):
    def gather(self, index, *, device="cpu"):
        time.sleep(0.2)
        return super().gather(index, device=device)
torch.set_num_threads(1)
source = Slow(embedded(), subjects=True)
state = trainer(plan(Path(sys.argv[1]), "lambda", checkpoint_every=1), source).run()
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
    whole = fit(plan(None, "lambda")).prior.state_dict()
    again = torch.load(weights, weights_only=True)
    assert all(torch.equal(again[name], whole[name]) for name in whole)
