"""Prompts for decoders that read text, each encoded alone by the decoder's own text encoder."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from eclipse.models.decoder.base import Decoder

_KEPT = 64  # encoded prompts: the pictures of a request share theirs, and all share the empty one

Text = tuple[Tensor, Tensor, Tensor]
"""Pooled vector [1, P], states [1, T, D] and mask [1, T] of one prompt, T the tokenizer's padded length."""


class PromptReader:
    """Encodes prompts by the pipeline's own ``_encode_prompt``, one at a time, so that company changes no bit."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._kept: OrderedDict[str, Text] = OrderedDict()

    @torch.no_grad()
    def __call__(self, prompt: str) -> Text:
        """``prompt`` encoded, now or before; the pipeline cuts what is too long, and warns."""
        if prompt in self._kept:
            self._kept.move_to_end(prompt)
        else:
            self._decoder.turn("text_encoder")
            self._kept[prompt] = self._decoder.pipeline._encode_prompt([prompt], self._decoder.device, 1, False)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return self._kept[prompt]
