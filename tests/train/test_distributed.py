"""Two processes on gloo do what one does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eclipse.embeddings.loader import BatchOrder
from eclipse.errors import ConfigError
from eclipse.train.distributed import World, join_world
from eclipse.train.loop import Plan, Trainer
from tests.train.tiny import ALONE, RECORDS, Memory, embedded, fit, objective, settings, tiny_prior

CPU = torch.device("cpu")
PLAN = Plan(settings(ema=0.5, micro_batch=3), objective(1.0), 0)


def gradients(world: World) -> dict[str, torch.Tensor]:
    source = Memory(embedded(), torch.float64)
    trainer = Trainer(tiny_prior().double(), source, BatchOrder(RECORDS, 8, 0), PLAN, world)
    trainer._backward(trainer._load(0))
    return {name: p.grad for name, p in trainer.state.prior.named_parameters() if p.grad is not None}


def main(folder: Path) -> None:
    """What each of the two processes runs."""
    torch.set_num_threads(1)
    with join_world(CPU) as world:
        first = gradients(world)
        state = fit(PLAN, world, torch.float64)
        assert world.any(world.rank == 1) and not world.any(False)
        assert world.agree(5) and not world.agree(world.rank)
        if world.writes:
            torch.save({"gradients": first, "prior": state.prior.state_dict(), "rows": state.rows}, folder / "two.pt")
        world.barrier()


@pytest.mark.slow
def test_two_ranks_give_the_gradients_and_the_prior_of_one(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "tests.train.test_distributed", str(tmp_path)]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True, timeout=500)
    two, one = torch.load(tmp_path / "two.pt", weights_only=True), fit(PLAN, ALONE, torch.float64)
    for name, gradient in gradients(ALONE).items():
        assert torch.allclose(two["gradients"][name], gradient, rtol=0, atol=1e-12), name
    for name, value in one.prior.state_dict().items():
        assert torch.allclose(two["prior"][name], value, rtol=0, atol=1e-9), name
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
