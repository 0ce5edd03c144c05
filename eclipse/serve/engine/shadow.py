"""Shadow scoring: a candidate prior predicts live prompts too, to be compared; nobody is shown what it predicts."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from eclipse.serve.engine.embed import Embedder, Question
from eclipse.serve.engine.models import LoadedPrior
from eclipse.serve.types import Prompt, Wanted

CANDIDATE = "@candidate"
"""What follows a champion's model name in that of its candidate."""

_WAITING = 256  # comparisons that may wait for an idle moment; older ones are forgotten


@dataclass(frozen=True)
class _Pair:
    champion: Question
    candidate: LoadedPrior
    embeds: Tensor


class Shadow:
    """Compares champion and candidate on the ``share`` of prompts whose hash says so, the same prompts on every server.

    ``record`` gets a JSON-able line for each picture; it names the prompt by its SHA-256 only.
    """

    def __init__(self, embedder: Embedder, share: float, record: Callable[[dict[str, Any]], None] | None) -> None:
        self._embedder = embedder
        self._share = share if record else 0.0
        self._record = record
        self._waiting: deque[_Pair] = deque(maxlen=_WAITING)

    def __len__(self) -> int:
        return len(self._waiting)

    def consider(
        self, wanted: Wanted, champion: LoadedPrior, embeds: Tensor, priors: Mapping[str, LoadedPrior]
    ) -> None:
        """Remember an answered picture's ẑ_x ``embeds`` [P], if its prompt is of the share and there is a candidate.

        Points between two prompts are left out: they have no caption to be compared with.
        """
        candidate = priors.get(champion.name.model + CANDIDATE)
        if candidate is None or not isinstance(wanted.source, Prompt) or not self._chosen(wanted.source):
            return
        self._waiting.append(_Pair(Question(champion, wanted.source, wanted.seed), candidate, embeds))

    def run_one(self) -> None:
        """Make the oldest comparison. For idle moments."""
        if not self._waiting or self._record is None:
            return
        pair = self._waiting.popleft()
        question = pair.champion
        answer = self._embedder.answer([Question(pair.candidate, question.prompt, question.seed)])[0]
        if isinstance(answer, Exception):
            raise answer
        text = self._embedder.encoded(question.prompt)[0].text.prompt_embeds[0]
        self._record(
            {
                "model": question.prior.name.model,
                "champion": question.prior.name.prior_hash,
                "candidate": pair.candidate.name.prior_hash,
                "prompt_sha256": _digest(question.prompt).hexdigest(),
                "seed": question.seed,
                "cosine": _cosine(pair.embeds, answer.embeds),
                "champion_to_text": _cosine(pair.embeds, text),
                "candidate_to_text": _cosine(answer.embeds, text),
                "seconds": answer.prior_seconds,
            }
        )

    def _chosen(self, prompt: Prompt) -> bool:
        return int.from_bytes(_digest(prompt).digest()[:8], "big") < self._share * 2**64


def _digest(prompt: Prompt) -> hashlib._Hash:
    return hashlib.sha256(prompt.text.encode())


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(F.cosine_similarity(a.double(), b.double(), dim=0))
