"""The two towers of a frozen CLIP, in the precision asked for and, where asked for, compiled.

**Precision.** With bf16 or fp16 the matrix products (linear layers, attention, convolutions) run in that type with
weights converted once. The sums between blocks, LayerNorm, softmax, the last norm and both projections stay float32:
a stream that is itself rounded after every block loses several times as much (docs/extraction.md has the figures).

**Compiling.** The transformer's blocks are compiled one by one, so that all blocks of a tower share one kernel. Every
new shape would compile anew, so captions and rows are padded up to a few sizes: attention is causal, hence what stands
after EOS, or in rows that nobody asked for, changes nothing. Without compiling nothing is padded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eclipse.errors import ConfigError

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_WIDTHS = (16, 24, 32, 48, 64)
_SHAPES = 64  # compiled kernels kept for one block: at most six widths by some row counts, and the pictures'


class Towers:
    """Runs the towers of ``model``, an open_clip ``CLIP``, which is changed in place and moved to ``device``.

    ``compile`` is True for torch's default compiler, or the name of a ``torch.compile`` backend.
    """

    def __init__(self, model: Any, precision: Precision, compile: bool | str, device: torch.device) -> None:
        if precision not in DTYPES:
            raise ConfigError(f"store.precision={precision!r}: is none of {', '.join(DTYPES)}")
        self.model = model
        self.precision = precision
        self._dtype = DTYPES[precision]
        self._device = device
        self._projection: Tensor | None = None
        if precision != "fp32":
            self._lower()
        model.to(device)
        self._padded = bool(compile)
        if compile:
            _compile(model, "inductor" if compile is True else compile)

    def text(self, tokens: Tensor) -> Tensor:
        """States after the final LayerNorm, float32 [N, W, D], of ``tokens`` int64 [N, W] on the device."""
        rows, width = tokens.shape
        model = self.model
        if self._padded:
            limit = len(model.positional_embedding)
            wider = min(next((w for w in _WIDTHS if w >= width), limit), limit)
            tokens = F.pad(tokens, (0, wider - width, 0, row_bucket(rows) - rows))
        mask = model.attn_mask[: tokens.shape[1], : tokens.shape[1]]
        x = model.token_embedding(tokens) + model.positional_embedding[: tokens.shape[1]]
        with self._arithmetic():
            x = model.transformer(x, attn_mask=mask.contiguous() if self._padded else mask)
        return model.ln_final(x.float())[:rows, :width]

    def image(self, pixels: Tensor) -> Tensor:
        """Projected vectors float32 [N, P] of normalised ``pixels`` float32 [N, 3, S, S] on the device."""
        rows = len(pixels)
        if self._padded:
            pixels = F.pad(pixels, (0, 0, 0, 0, 0, 0, 0, row_bucket(rows) - rows))
        with self._arithmetic():
            pooled = self.model.visual(pixels)
        pooled = pooled.float()[:rows]
        return pooled if self._projection is None else pooled @ self._projection

    def _arithmetic(self) -> AbstractContextManager[Any]:
        lowered = nullcontext() if self.precision == "fp32" else torch.autocast(self._device.type, self._dtype)
        return _stacked(lowered) if self._padded else lowered

    def _lower(self) -> None:
        """Convert the weights of matrix products; keep the image tower's stream and projection in float32."""
        model, visual = self.model, self.model.visual
        for tower in (model.transformer, visual):
            for part in tower.modules():
                if isinstance(part, nn.Linear | nn.Conv2d | nn.MultiheadAttention):
                    part.to(self._dtype)
        if isinstance(getattr(visual, "proj", None), Tensor):
            self._projection = visual.proj.detach().to(self._device)
            visual.proj = None
            # open_clip's norms give back the type that they get, so the stream has the type of the first layer.
            visual.conv1.register_forward_hook(_as_float)


def row_bucket(rows: int) -> int:
    """The smallest of 1, 2, 3, 4, 6, 8, 12, 16, 24 … that is not below ``rows``: a third of it is padding at most."""
    power = 1 << max(rows - 1, 0).bit_length()
    return power * 3 // 4 if rows <= power * 3 // 4 and power >= 4 else power


def _as_float(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return output.float()


def _compile(model: Any, backend: str) -> None:
    visual = getattr(model.visual, "transformer", None)
    blocks = [*model.transformer.resblocks, *(visual.resblocks if visual is not None else [model.visual])]
    for block in blocks:
        block.compile(backend=backend, dynamic=False)


@contextmanager
def _stacked(lowered: AbstractContextManager[Any]) -> Iterator[None]:
    """``lowered``, room for the shapes of both towers, and a plain word where there is no compiler."""
    from torch._dynamo import config, exc

    try:
        with config.patch(recompile_limit=_SHAPES), lowered:
            yield
    except exc.BackendCompilerFailed as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"store.compile: torch.compile fails on this machine ({reason}); set it to false") from error
