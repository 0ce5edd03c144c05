"""Masks by SAM, prompted with boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from eclipse.annotate.interfaces import Corners, Picture
from eclipse.annotate.pretrained import load
from eclipse.models.device import pick


class SamSegmenter:
    """``SamModel``; one mask for each box (the ambiguity that its three masks are for is what the box settles)."""

    def __init__(self, name: str) -> None:
        from transformers import SamModel, SamProcessor

        self._device = pick()
        model, self._processor = load("segmenter", name, SamModel, SamProcessor)
        self._model = model.to(self._device)

    @torch.no_grad()
    def masks(self, image: Picture, boxes: Sequence[Corners]) -> NDArray[np.uint8]:
        """{0, 1} uint8 [K, H, W]; the picture goes through the encoder once for all of its boxes."""
        prompts = [[[float(value) for value in corners] for corners in boxes]]
        inputs = self._processor(images=image, input_boxes=prompts, return_tensors="pt")
        sizes, resized = inputs.pop("original_sizes"), inputs.pop("reshaped_input_sizes")
        inputs["input_boxes"] = inputs["input_boxes"].float()
        logits = self._model(**inputs.to(self._device), multimask_output=False).pred_masks
        [masks] = self._processor.post_process_masks(logits.cpu(), sizes, resized)
        return masks[:, 0].numpy().astype(np.uint8)
