"""Several encoders of one torchrun: each takes its part of the shards, and whoever ends last puts them together.

They meet in files alone. So a run of which a process died is gone on with by the same command, on the same number of
processes: finished parts stay, and the others go on after their last finished shard (see
:mod:`eclipse.embeddings.meeting`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from eclipse.errors import ConfigError


@dataclass(frozen=True)
class Rank:
    """This process among ``size``, of which ``beside`` (with it) run on this machine; ``local`` counts those."""

    rank: int
    size: int
    local: int
    beside: int

    @property
    def part(self) -> tuple[int, int]:
        """(i, n) as :func:`eclipse.embeddings.parts.share` takes it."""
        return self.rank, self.size

    def device(self) -> torch.device:
        """Its own GPU, or the CPU where there is none; more processes than GPUs are a :class:`ConfigError`."""
        if not torch.cuda.is_available():
            return torch.device("cpu")
        if self.local >= torch.cuda.device_count():
            raise ConfigError(
                f"LOCAL_RANK={self.local}: this machine has {torch.cuda.device_count()} GPUs; start torchrun with "
                "--nproc-per-node of as many at most"
            )
        torch.cuda.set_device(self.local)
        return torch.device("cuda", self.local)

    def folder(self, out: Path) -> Path:
        """Where the parts of the store ``out`` lie; another number of processes has other parts."""
        return out.with_name(f"{out.name}.parts-{self.size}")


def launched() -> Rank | None:
    """What torchrun says of this process, or None where it was started alone."""
    names = {"rank": "RANK", "size": "WORLD_SIZE", "local": "LOCAL_RANK", "beside": "LOCAL_WORLD_SIZE"}
    said = {field: os.environ.get(name) for field, name in names.items()}
    if said["rank"] is None or said["size"] in (None, "1"):
        return None
    try:
        rank = Rank(**{field: int(value or "") for field, value in said.items()})
    except ValueError:
        raise ConfigError(
            f"environment: {', '.join(names.values())} are {', '.join(map(repr, said.values()))}; start with torchrun, "
            "or unset RANK and WORLD_SIZE"
        ) from None
    if not 0 <= rank.rank < rank.size:
        raise ConfigError(f"environment: RANK={rank.rank} is outside 0 … {rank.size - 1}; start with torchrun")
    return rank
