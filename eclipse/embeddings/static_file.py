"""static.safetensors: what all shards of a store share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from eclipse.embeddings.quantise import Statics
from eclipse.files import atomic_file


@dataclass(frozen=True)
class StaticFile:
    """Channel statistics and BOS state; ``nothing`` float32 [P], the embedding of no picture, of annotated data."""

    statics: Statics
    nothing: Tensor | None = None

    def save(self, path: Path) -> None:
        """Write ``path``; equal values give equal bytes."""
        tensors = {"mean": self.statics.mean, "std": self.statics.std, "bos": self.statics.bos}
        if self.nothing is not None:
            tensors["nothing"] = self.nothing.contiguous()
        with atomic_file(path) as beside:
            save_file(tensors, beside)

    @classmethod
    def load(cls, path: Path) -> StaticFile:
        """Read what :meth:`save` wrote."""
        tensors = load_file(path)
        return cls(Statics(tensors["mean"], tensors["std"], tensors["bos"]), tensors.get("nothing"))
