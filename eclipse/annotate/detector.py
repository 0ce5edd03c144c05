"""Boxes by Grounding DINO: all phrases of a picture in one prompt, each box with a score for each phrase."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eclipse.annotate.interfaces import Picture, Proposals
from eclipse.annotate.pretrained import load
from eclipse.models.device import pick


class GroundingDino:
    """``GroundingDinoForObjectDetection``.

    A phrase's score is the highest of its own tokens. Upstream reads the phrase back from the text that the tokens
    above the threshold spell, which loses words of several tokens and joins neighbours.
    """

    def __init__(self, name: str) -> None:
        from transformers import GroundingDinoForObjectDetection, GroundingDinoProcessor

        self._device = pick()
        model, self._processor = load("detector", name, GroundingDinoForObjectDetection, GroundingDinoProcessor)
        self._model = model.to(self._device)
        self._context = int(model.config.max_text_len)  # the model itself fails on longer prompts

    @torch.no_grad()
    def detect(self, images: Sequence[Picture], phrases: Sequence[Sequence[str]]) -> list[Proposals]:
        """Every query of the model for each picture, with the scores of that picture's phrases."""
        prompts = [Prompt(own) for own in phrases]
        texts = [prompt.text for prompt in prompts]
        inputs = self._processor(
            images=list(images),
            text=texts,
            padding=True,
            truncation=True,
            max_length=self._context,
            return_tensors="pt",
        ).to(self._device)
        outputs = self._model(**inputs)
        found = self._processor.post_process_grounded_object_detection(
            outputs,
            inputs["input_ids"],
            threshold=-1.0,  # nothing is removed here: filters count what they remove
            text_threshold=1.0,
            target_sizes=[image.shape[:2] for image in images],
        )
        per_token = torch.sigmoid(outputs.logits).cpu().numpy()
        offsets = self._offsets(texts)
        return [
            Proposals(one["boxes"].cpu().numpy(), one["scores"].cpu().numpy(), prompt.scores(per_token[i], offsets[i]))
            for i, (one, prompt) in enumerate(zip(found, prompts, strict=True))
        ]

    def _offsets(self, texts: list[str]) -> list[Any]:
        return self._processor.tokenizer(texts, return_offsets_mapping=True)["offset_mapping"]


class Prompt:
    """Phrases as Grounding DINO reads them ("dog. fire hydrant.") and where each of them stands."""

    def __init__(self, phrases: Sequence[str]) -> None:
        self.text = ""
        self._spans: list[tuple[int, int]] = []
        for phrase in phrases:
            clean = " ".join(phrase.lower().replace(".", " ").replace("?", " ").split())  # both end a phrase
            self.text += " " if self.text else ""
            self._spans.append((len(self.text), len(self.text) + len(clean)))
            self.text += clean + "."

    def scores(self, per_token: NDArray[np.float32], offsets: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
        """float32 [Q, N], the best token of each phrase, from ``per_token`` float32 [Q, T].

        ``offsets`` are the characters of the prompt's tokens; a phrase beyond the model's context scores 0.
        """
        scores = np.zeros((len(per_token), len(self._spans)), np.float32)
        for n, (start, end) in enumerate(self._spans):
            tokens = [t for t, (a, b) in enumerate(offsets) if a < b and start <= a and b <= end]
            tokens = [t for t in tokens if t < per_token.shape[1]]
            if tokens:
                scores[:, n] = per_token[:, tokens].max(1)
        return scores
