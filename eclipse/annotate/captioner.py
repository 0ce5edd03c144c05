"""Captions by BLIP-2 (the paper: flan-t5-xl), greedily and without a prompt."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from eclipse.annotate.interfaces import Picture
from eclipse.annotate.pretrained import load
from eclipse.errors import ConfigError
from eclipse.models.device import pick

MAX_TOKENS = 40  # new ones; a caption has to fit CLIP's context of 77


class Blip2Captioner:
    """``Blip2ForConditionalGeneration`` with a decoder-only or an encoder-decoder language model.

    On a GPU in bfloat16, which the published models need to fit and T5 stays finite in; on a CPU in float32.
    """

    def __init__(self, name: str) -> None:
        from transformers import Blip2ForConditionalGeneration, Blip2Processor

        self._device = pick()
        self._dtype = torch.bfloat16 if self._device.type == "cuda" else torch.float32
        model, self._processor = load("captioner", name, Blip2ForConditionalGeneration, Blip2Processor, self._dtype)
        if model.config.image_token_index is None:
            raise ConfigError(
                f"annotate.models.captioner: {name}: config.json has no image_token_index; use a newer revision"
            )
        self._model = model.to(self._device)
        # Folders written by older versions do not say it, and the picture would then be left out without a word.
        self._processor.num_query_tokens = model.config.num_query_tokens
        self._processor.tokenizer.padding_side = "left"

    @torch.no_grad()
    def captions(self, images: Sequence[Picture]) -> list[str]:
        """One caption for each picture, with single spaces."""
        inputs = self._processor(images=list(images), text=[""] * len(images), return_tensors="pt")
        inputs = inputs.to(self._device, self._dtype)
        tokens = self._model.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False, num_beams=1)
        texts = self._processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]
