"""Two processes on gloo do what one does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eclipse.errors import ConfigError
from eclipse.train.distributed import World, join_world
from eclipse.train.loop import Plan
from tests.train.tiny import ALONE, METHODS, fit, gradients, settings

CPU = torch.device("cpu")
PLANS = {name: Plan(settings(ema=0.5, micro_batch=3), method, 0) for name, method in METHODS.items()}


def main(folder: Path) -> None:
    """What each of the two processes runs."""
    torch.set_num_threads(1)
    with join_world(CPU) as world:
        for name, plan in PLANS.items():
            first = gradients(plan, world)
            state = fit(plan, world, torch.float64)
            if world.writes:
                made = {"gradients": first, "prior": state.prior.state_dict(), "rows": state.rows}
                torch.save(made, folder / f"{name}.pt")
        assert world.any(world.rank == 1) and not world.any(False)
        assert world.agree(5) and not world.agree(world.rank)
        world.barrier()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "tests.train.test_distributed", str(folder)]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True, timeout=500)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANS)
def test_two_ranks_give_the_gradients_and_the_prior_of_one(two_ranks, name: str):
    plan = PLANS[name]
    two, one = torch.load(two_ranks / f"{name}.pt", weights_only=True), fit(plan, ALONE, torch.float64)
    for weight, gradient in gradients(plan).items():
        assert torch.allclose(two["gradients"][weight], gradient, rtol=0, atol=1e-12), weight
    for weight, value in one.prior.state_dict().items():
        assert torch.allclose(two["prior"][weight], value, rtol=0, atol=1e-9), weight
    for mine, theirs in zip(one.rows, two["rows"], strict=True):
        for column in set(mine) - {"seconds"}:
            assert theirs[column] == pytest.approx(mine[column], rel=1e-6, abs=1e-9), column


def test_shares_are_contiguous_and_cover_the_batch():
    shares = [World(rank, 4, CPU).share(12) for rank in range(4)]
    assert [i for share in shares for i in range(share.start, share.stop)] == list(range(12))


def test_world_of_one_needs_no_process_group(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with join_world(CPU) as world:
        assert (world.rank, world.size, world.writes) == (0, 1, True)
        assert torch.equal(world.gather(torch.arange(3)), torch.arange(3))
        assert world.any(True) and world.agree(1)


def test_half_described_world_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError, match="RANK.* not set; start the processes with torchrun"), join_world(CPU):
        pass


if __name__ == "__main__":
    main(Path(sys.argv[1]))
