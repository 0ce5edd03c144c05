"""Parts of a decoder that are moved to a GPU for their work, followed on a CPU: which would be there, and when."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from accelerate.hooks import CpuOffload
from torch import nn

from eclipse.models.decoder import Decoder


def offload_layers(decoder: Decoder) -> None:
    """As ``enable_sequential_cpu_offload``, but for its ``cpu:0``, which no parameter survives."""
    for part in decoder.pipeline.components.values():
        if isinstance(part, nn.Module):
            cpu_offload(part, torch.device("cpu"), offload_buffers=len(part._parameters) > 0)


class Moves:
    """``seen`` are the parts on the GPU at the start of each call of one; ``parts`` all that have weights."""

    def __init__(self, decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
        """Offload the parts of ``decoder``, the CPU in the GPU's place, and follow them by accelerate's own hook."""
        found = decoder.pipeline.components.items()
        names = {id(part): name for name, part in found if isinstance(part, nn.Module)}
        self.parts = set(names.values())
        self.seen: list[set[str]] = []
        there: set[str] = set()
        go, leave = CpuOffload.pre_forward, CpuOffload.init_hook

        def pre_forward(hook: Any, module: nn.Module, *args: Any, **named: Any) -> Any:
            if hook.prev_module_hook is not None:  # it sends that one away where it is not on a CPU already
                there.discard(names[id(hook.prev_module_hook.model)])
            there.add(names[id(module)])
            self.seen.append(set(there))
            return go(hook, module, *args, **named)

        def init_hook(hook: Any, module: nn.Module) -> Any:
            there.discard(names[id(module)])
            return leave(hook, module)

        monkeypatch.setattr(CpuOffload, "pre_forward", pre_forward)
        monkeypatch.setattr(CpuOffload, "init_hook", init_hook)
        decoder.pipeline.enable_model_cpu_offload(device="cpu")

    @property
    def called(self) -> set[str]:
        """Parts that worked at all."""
        return set().union(*self.seen)
