"""One split of annotated data: predictions of a point with the subjects in the captions, pictures, and every metric."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from eclipse.config.params import EvaluateParams
from eclipse.embeddings.batch import Batch
from eclipse.embeddings.store import Store
from eclipse.errors import DataError
from eclipse.evaluate.generate import Targets, decode_prompts, predict_split, prompt_seeds, text_only
from eclipse.evaluate.judge import Judge
from eclipse.evaluate.metrics import cosine
from eclipse.evaluate.split import Tools, filled, real_pictures
from eclipse.evaluate.subject_edges import edge_f1
from eclipse.evaluate.subject_oracle import Asked, oracle_scores
from eclipse.models.checkpoint import Prior, kind_of
from eclipse.models.interleave import interleave

REFERENCES = ("truth", "subject", "mean")
"""The true z_x; the mean of a prompt's subject embeddings; the mean of that and the text-only baseline's prediction."""

_BATCH = 256


@dataclass(frozen=True)
class Prompts:
    """A split as its store holds it: N prompts with S subjects. ``owner`` int64 [S], ascending: each subject's prompt.

    ``subject_embeds`` float32 [S, P] are the subjects' pictures, projected and not normalised.
    """

    split: str
    ids: list[str]
    captions: list[str]
    targets: Targets
    subject_embeds: NDArray[np.float32]
    owner: NDArray[np.int64]

    @classmethod
    def of(cls, store: Store) -> Prompts:
        """All prompts of ``store``'s split; :class:`DataError` where one has no subject."""
        table = store.table()
        ids = table["id"].to_pylist()
        parts: dict[str, list[NDArray[Any]]] = {"image": [], "text": [], "subject": [], "owner": []}
        for start in range(0, len(store), _BATCH):
            batch = store.gather(np.arange(start, min(start + _BATCH, len(store))))
            if batch.subjects is None:
                raise DataError(
                    f"{store.folder}: holds no subjects; run the stages annotate and embed, give their store"
                )
            parts["image"].append(batch.image_embeds.numpy())
            parts["text"].append(batch.prompt_embeds.numpy())
            parts["subject"].append(batch.subjects.embeds.numpy())
            parts["owner"].append(batch.subjects.owner.numpy() + start)
        found = {name: np.concatenate(arrays) for name, arrays in parts.items()}
        without = np.setdiff1d(np.arange(len(ids)), found["owner"])
        if len(without):
            raise DataError(
                f"{store.folder}: {store.split} {ids[without[0]]} has no subject; run the annotate stage again"
            )
        targets = Targets(found["image"], found["text"])
        return cls(store.split, ids, table["caption"].to_pylist(), targets, found["subject"], found["owner"])

    @property
    def n_subjects(self) -> NDArray[np.int64]:
        """Subjects of each prompt, int64 [N], each at least 1."""
        return np.bincount(self.owner, minlength=len(self.ids))

    def over_subjects(self, values: NDArray[Any]) -> NDArray[Any]:
        """``values`` [S, …] of the subjects averaged within each prompt: [N, …]."""
        firsts = np.cumsum(self.n_subjects) - self.n_subjects
        sums = np.add.reduceat(values, firsts, axis=0)
        return np.asarray(sums / self.n_subjects.reshape(-1, *(1,) * (values.ndim - 1)))


@dataclass(frozen=True)
class Measured:
    """What is known of a group of prompts: ``scores`` float64 [N] by name (NaN = not defined), and the pictures.

    ``images`` uint8 [K, H, W, 3] are those of the first K prompts; None where none was decoded.
    """

    group: str
    prompts: Prompts
    scores: dict[str, NDArray[np.float64]]
    images: NDArray[np.uint8] | None
    prior_seconds: float


def interleaved(nothing: Tensor, *, edges: bool = False) -> Callable[[Batch], tuple[Batch, Tensor]]:
    """What a λ-ECLIPSE prior is asked with: a batch → the batch with its subjects interleaved, control float32 [B, P].

    The control is the batch's edge maps with ``edges``, else ``nothing`` [P] (arXiv 2402.05195, §3.1 and §3.2).
    """

    def condition(batch: Batch) -> tuple[Batch, Tensor]:
        subjects, control = batch.subjects, batch.control_embeds if edges else nothing.expand(len(batch), -1)
        if subjects is None or control is None:
            raise DataError("the batch has no subjects or no edges; run the stages annotate and embed again")
        states = interleave(
            batch.text_states, batch.lengths, subjects.embeds, subjects.owner, subjects.start, subjects.length
        )
        return replace(batch, text_states=states), control

    return condition


def predict_prompts(
    point: str, prior: Prior | None, store: Store, prompts: Prompts, params: EvaluateParams, *, edges: bool = False
) -> tuple[NDArray[np.float32], float]:
    """ẑ_x float32 [N, P] of ``point`` for all ``prompts`` of ``store``, and the seconds spent in the prior.

    ``prior`` is the point's own; for ``mean`` the text-only baseline; the other references need none. A prior without a
    control token sees the caption's words alone.
    """
    if point == "truth":
        return prompts.targets.image_embeds, 0.0
    own = prompts.over_subjects(prompts.subject_embeds).astype(np.float32)
    if point == "subject" or prior is None:
        return own, 0.0
    condition = interleaved(store.nothing, edges=edges) if kind_of(prior) == "lambda-eclipse" else text_only
    seeds = prompt_seeds(prompts.split, prompts.ids, "prior", params.seed)
    predicted, seconds = predict_split(prior, store, seeds, params, desc=prompts.split, condition=condition)
    if point == "mean":
        predicted = ((predicted + own) / 2).astype(np.float32)
    return predicted, seconds


def measure(
    group: str,
    prompts: Prompts,
    predicted: tuple[NDArray[np.float32], float],
    tools: Tools,
    *,
    dataset: Path,
    count: int,
    params: EvaluateParams,
) -> Measured:
    """Score ``predicted`` (embeddings [N, P] and the prior's seconds), decoding the first ``count`` of ``prompts``."""
    embeds, seconds = predicted
    scores = {"cosine": cosine(embeds, prompts.targets.image_embeds)}
    count = min(count, len(prompts.ids))
    if tools.decoder is None or not count:
        return Measured(group, prompts, scores, None, seconds)
    seeds = prompt_seeds(prompts.split, prompts.ids[:count], "decoder", params.seed)
    images = decode_prompts(
        tools.decoder, embeds[:count], seeds, params.decode, tools.negative, prompts.captions[:count]
    )
    real, meta = real_pictures(dataset, prompts.split, prompts.ids[:count], (images.shape[2], images.shape[1]))
    judged = picture_scores(tools.judge, prompts, images, real, meta)
    scores |= {name: filled(values, len(prompts.ids)) for name, values in judged.items()}
    return Measured(group, prompts, scores, images, seconds)


def picture_scores(
    judge: Judge, prompts: Prompts, images: NDArray[np.uint8], real: NDArray[np.uint8], meta: list[dict[str, Any]]
) -> dict[str, NDArray[np.float64]]:
    """Scores float64 [K] of the decoded ``images`` of the first K prompts; ``real`` and ``meta`` are their records'.

    CLIP and edges always; the oracle's where there is one and the records say what their scene and subjects are.
    """
    seen = judge.embed(images)
    first = prompts.owner < len(images)
    likeness = np.full(len(prompts.owner), np.nan)
    likeness[first] = cosine(seen[prompts.owner[first]], prompts.subject_embeds[first])
    scores = {
        "clip_t": cosine(seen, prompts.targets.prompt_embeds[: len(images)]),
        "clip_i": prompts.over_subjects(likeness)[: len(images)],
        "edge_f1": edge_f1(images, real),
    }
    asked = [Asked.of(name, item) for name, item in zip(prompts.ids, meta, strict=False)]
    if judge.oracle is None or not any(asked):
        return scores
    return scores | oracle_scores(asked, judge.oracle.probabilities(images), judge.oracle.probabilities(real))
