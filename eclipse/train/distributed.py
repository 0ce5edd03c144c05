"""One process or many: rank and size come from torchrun's environment, and all ranks share one global batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from eclipse.errors import ConfigError


@dataclass(frozen=True)
class World:
    """This process's place. All methods are collective: every rank must call them in the same order."""

    rank: int
    size: int
    device: torch.device

    @property
    def writes(self) -> bool:
        """Whether this rank writes files (rank 0 alone does)."""
        return self.rank == 0

    def share(self, batch_size: int) -> slice:
        """This rank's contiguous rows of a global batch; a batch that cannot be shared equally is refused."""
        if batch_size % self.size:
            raise ConfigError(
                f"train.batch_size ({batch_size}) must be a multiple of the number of processes ({self.size}): "
                "the average over ranks is the global gradient only for equal shares"
            )
        rows = batch_size // self.size
        return slice(self.rank * rows, (self.rank + 1) * rows)

    def gather(self, local: Tensor) -> Tensor:
        """Concatenate [n, …] of all ranks to [n·size, …], in rank order and without gradient."""
        local = local.detach().contiguous()
        if self.size == 1:
            return local
        parts = [torch.empty_like(local) for _ in range(self.size)]
        dist.all_gather(parts, local)
        return torch.cat(parts)

    def mean(self, values: Tensor) -> Tensor:
        """Mean of a tensor over ranks, without gradient."""
        total = values.detach().clone()
        if self.size > 1:
            dist.all_reduce(total)
        return total / self.size

    def any(self, flag: bool) -> bool:
        """True on every rank as soon as it is true on one."""
        if self.size == 1:
            return flag
        count = torch.tensor([int(flag)], device=self.device)
        dist.all_reduce(count)
        return bool(count.item())

    def agree(self, value: int) -> bool:
        """Whether all ranks hold the same integer."""
        values = self.gather(torch.tensor([value], device=self.device))
        return bool((values == values[0]).all())

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def join_world(device: torch.device) -> Iterator[World]:
    """The world that torchrun described in the environment, or a world of one. NCCL with CUDA devices, else gloo."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(0, 1, device)
        return
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ConfigError(f"WORLD_SIZE is {size} but {', '.join(missing)} not set; start the processes with torchrun")
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()
