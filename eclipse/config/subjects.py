"""Parameters of λ-ECLIPSE: who annotates subjects, the sweep that learns them, and finetuning of the decoder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from eclipse.config.section import Section

_SUBJECT_POINT = re.compile(r"^(lambda-\d+(\.\d+)?(-edges)?|eclipse-\d+(\.\d+)?)$")


class FilterParams(Section):
    """λ-ECLIPSE's data filters (arXiv 2402.05195, appendix); the defaults are the paper's."""

    box_threshold: float = Field(0.2, ge=0, le=1)
    """The detector's lowest score of a box."""
    text_threshold: float = Field(0.2, ge=0, le=1)
    """The detector's lowest score of a word for a box."""
    boxes: tuple[int, int] = (1, 8)
    """Fewest and most boxes of an image."""
    identical: int = Field(6, ge=1)
    """Most boxes of an image with the same noun."""
    logit: float = Field(0.3, ge=0, le=1)
    """Lowest score of a box that becomes a subject."""
    ratio: tuple[float, float] = (0.08, 0.7)
    """Smallest and largest ratio of a subject's box."""
    ratio_of: Literal["sides", "aspect"] = "sides"
    """What the ratio is of: each side of the box to that side of the image, or its width to its height. The paper says
    "width/height ratio" only; as an aspect ratio, 0.7 would drop every square object."""
    mask_share: float = Field(0.4, ge=0, le=1)
    """A mask covers at least this share of its box."""
    white: float = Field(0.1, ge=0, le=1)
    """Images with a larger share of white pixels are dropped."""
    subjects: tuple[int, int] = (1, 4)
    """Fewest and most subjects of a record."""


class AnnotatorParams(Section):
    """The annotation models (``annotate.by: [models]``): names or folders for ``from_pretrained``."""

    captioner: str | None = "Salesforce/blip2-flan-t5-xl"
    """BLIP-2; null keeps the captions that the data has."""
    nouns: str = "en_core_web_trf"
    """spaCy pipeline with a tagger."""
    detector: str = "IDEA-Research/grounding-dino-base"
    """Grounding DINO."""
    segmenter: str = "facebook/sam-vit-huge"
    """SAM."""
    batch_size: int = Field(8, ge=1)
    """Images annotated at once."""


class AnnotateParams(Section):
    """Where the subjects of λ-ECLIPSE's data come from."""

    by: tuple[Literal["world", "models"], ...] = Field((), max_length=1)
    """Who annotates: the mini world's renderer, or the paper's models. A list of one, or of none: without subjects
    nothing of λ-ECLIPSE is run (the graph has a stage for each entry)."""
    filters: FilterParams = FilterParams()
    models: AnnotatorParams = AnnotatorParams()


class SubjectsParams(Section):
    """The sweep of priors that take subjects (λ-ECLIPSE, arXiv 2402.05195). Without points nothing is annotated."""

    points: tuple[str, ...] = ()
    """``lambda-λ`` (no edges), ``lambda-λ-edges`` (with the control token), ``eclipse-λ`` (the text-only baseline)."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of initialisation, noise and batch order."""
    text_only: str = "eclipse-0.2"
    """Which of ``points`` is the text-only baseline."""
    results: Path = Path("artifacts/subjects")
    """Folder of this sweep's results that the report shows; without points one that always exists."""

    @property
    def names(self) -> tuple[str, ...]:
        """``<point>-<seed>`` of all that is trained."""
        return tuple(f"{point}-{seed}" for point in self.points for seed in self.seeds)

    @model_validator(mode="after")
    def _points_known(self) -> SubjectsParams:
        for point in self.points:
            if not _SUBJECT_POINT.match(point):
                raise ValueError(f"{point!r} is no point; write lambda-λ, lambda-λ-edges or eclipse-λ")
        if len(set(self.points)) != len(self.points):
            raise ValueError("a point is listed twice")
        if self.points and self.text_only not in self.points:
            raise ValueError(f"text_only: {self.text_only!r} is not among points; add it")
        return self


class FinetuneStudyParams(Section):
    """The finetuning study (docs/personalize.md): concepts with textures that the decoder never saw."""

    steps: int = Field(200, ge=1)
    """Optimiser steps at the paper's learning rate (``finetune.lr``)."""
    stronger_lr: float = Field(5e-4, gt=0)
    """Learning rate of the stronger setting; the mini decoder is small and learns little at 1e-5."""
    stronger_steps: int = Field(300, ge=1)
    """Optimiser steps of the stronger setting."""
    pictures: int = Field(5, ge=1)
    """Pictures of each concept to finetune on."""
    others: int = Field(8, ge=2)
    """Other pictures of each concept to measure on."""
    scenes: int = Field(48, ge=2)
    """Ordinary scenes on which forgetting is measured."""
    bootstrap: int = Field(2000, ge=100)
    """Resamples over pictures behind each 95 % interval."""


class FinetuneParams(Section):
    """Finetuning of the decoder on concept pictures (arXiv 2402.05195, §3.3)."""

    lr: float = Field(1e-5, gt=0)
    """AdamW's learning rate, without warm-up (paper: 1e-5)."""
    batch_size: int = Field(4, ge=1)
    """Pictures in one forward pass."""
    accumulate: int = Field(1, ge=1)
    """Forward passes of one optimiser step."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay of the weights' moving average that is saved; 0 = none."""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW's."""
    clip_norm: float = Field(1.0, gt=0)
    """Gradient clipping."""
    lora_rank: int | None = Field(None, ge=1)
    """Train low-rank adapters of the attention layers only, merged when saved; null = the whole UNet. Adapters start at
    nothing and want a larger ``lr`` (1e-4)."""
    checkpoint_every: int = Field(100, ge=1)
    """Steps between resumable checkpoints."""
    study: FinetuneStudyParams = FinetuneStudyParams()
