"""Every parameter there is, with its type, bounds and meaning. Sizes that data or models know are not parameters."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from eclipse.config.cluster import ClusterParams
from eclipse.config.data import DataParams
from eclipse.config.decoder import DecoderParams, Sampler
from eclipse.config.frozen import FrozenParams
from eclipse.config.promote import PromoteParams
from eclipse.config.section import Section
from eclipse.config.serve import ServeParams
from eclipse.config.subjects import AnnotateParams, FinetuneParams, SubjectsParams


class StoreParams(Section):
    """The embedding store."""

    tokens: Literal["int8", "fp16"] = "int8"
    """Storage of text states. int8 costs ≤ 1 % relative error per token (gated when written)."""
    batch_size: int = Field(64, ge=1)
    """Records encoded at once."""
    image_dtype: Literal["fp16", "fp32"] = "fp16"
    """Storage of pooled vectors."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """The encoder's arithmetic; bf16 or fp16 on a GPU for large CLIPs. The store's header says what was used."""
    compile: bool = False
    """``torch.compile`` the towers: minutes at the start, worth it from some 10⁵ records on."""
    workers: int | None = Field(None, ge=0)
    """Processes that read and decode pictures ahead of the encoder; 0 = none, null = by the number of cores where there
    is a GPU, none without. Results do not depend on it."""


class PriorParams(Section):
    """The prior's own size. Widths of its inputs and output come from the embedding store's header."""

    layers: int = Field(10, ge=1)
    """Transformer blocks."""
    heads: int = Field(16, ge=1)
    """Attention heads."""
    head_dim: int = Field(32, ge=1)
    """Channels of one head."""


class TrainParams(Section):
    """Optimisation of a prior (all methods alike)."""

    steps: int = Field(ge=1)
    """Optimiser steps."""
    batch_size: int = Field(ge=2)
    """Global batch: the contrastive term sees all of it, whatever the world size and micro-batch."""
    micro_batch: int | None = Field(None, ge=1)
    """Samples in one forward pass of one rank; null = its whole share of the batch."""
    lr: float = Field(5e-5, gt=0)
    """Peak learning rate (paper: 5e-5)."""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW's."""
    warmup: int = Field(0, ge=0)
    """Steps of linear warm-up."""
    cycle: int | None = Field(None, ge=1)
    """First period of CosineAnnealingWarmRestarts in steps; null = one cycle over the whole training."""
    cycle_factor: int = Field(1, ge=1)
    """Growth of the period after each restart."""
    clip_norm: float = Field(1.0, gt=0)
    """Gradient clipping."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay of the weights' moving average that is saved as the prior; 0 = none."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Autocast precision of the forward pass; weights stay fp32."""
    compile: bool = False
    """``torch.compile`` the prior's blocks."""
    mse_reduction: Literal["mean", "sum"] = "mean"
    """Over dimensions (over samples: mean). Not given by the papers; λ's meaning depends on it, so it is recorded."""
    temperature: float | None = Field(None, gt=0)
    """τ of the contrastive term; null = the frozen CLIP's own 1 / logit_scale from the store's header."""
    row_tokens: int = Field(128, ge=16)
    """Length of a packed row."""
    diffusion_steps: int = Field(1000, ge=2)
    """Training steps of the diffusion baseline's linear schedule (Eq. 1)."""
    condition_drop: float = Field(0.1, ge=0, lt=1)
    """Diffusion baseline: share of samples trained without caption, for guidance."""
    control_drop: float = Field(0.01, ge=0, le=1)
    """λ-ECLIPSE with edges: share of samples whose edges are replaced by "no picture" (paper: 1 %)."""
    subject_steps: int | None = Field(None, ge=1)
    """Optimiser steps on data with subjects; null = ``steps``."""
    subject_batch_size: int | None = Field(None, ge=2)
    """Global batch on data with subjects; null = ``batch_size``."""
    checkpoint_every: int = Field(200, ge=1)
    """Steps between resumable checkpoints."""
    probe_every: int = Field(50, ge=1)
    """Steps between rows of the training curve."""
    limit: int | None = Field(None, ge=1)
    """Train on the first so many pairs of the store only; null = all."""


_POINT = re.compile(r"^(projection|diffusion|eclipse-\d+(\.\d+)?)$")


class SweepParams(Section):
    """What is trained: every point with every seed."""

    points: tuple[str, ...] = ("projection", "diffusion", "eclipse-0.1", "eclipse-0.2", "eclipse-0.5", "eclipse-1.0")
    """``projection`` (λ = 0), ``diffusion``, or ``eclipse-λ``."""
    seeds: tuple[int, ...] = (0, 1)
    """Seeds of initialisation, noise and batch order."""

    @property
    def names(self) -> tuple[str, ...]:
        """``<point>-<seed>`` of all that is trained."""
        return tuple(f"{point}-{seed}" for point in self.points for seed in self.seeds)

    @field_validator("points")
    @classmethod
    def _known(cls, points: tuple[str, ...]) -> tuple[str, ...]:
        for point in points:
            if not _POINT.match(point):
                raise ValueError(f"{point!r} is no sweep point; write projection, diffusion or eclipse-λ (eclipse-0.2)")
        if len(set(points)) != len(points):
            raise ValueError("a point is listed twice")
        return points


class DecodeParams(Section):
    """How embeddings are turned into pictures for evaluation and sheets."""

    steps: int = Field(8, ge=1)
    """Decoder steps."""
    scheduler: Sampler = "dpm++"
    """Sampler; Kandinsky takes the first three, Karlo its own (``unclip``)."""
    guidance: float = Field(3.0, ge=0)
    """Classifier-free guidance of the decoder; 1 = none (one UNet call a step)."""
    batch_size: int = Field(32, ge=1)
    """Pictures decoded at once; results do not depend on it."""


class EvaluateParams(Section):
    """Evaluation of one prior."""

    splits: tuple[str, ...] = ("val_seen", "val_held_out", "test_seen", "test_held_out")
    """What is measured, of these four; selection needs the first two and the report the last two."""
    images: int = Field(100, ge=0)
    """Captions of each split that are decoded and judged; 0 = embedding metrics only. Pictures of ``val_seen`` are made
    only where the data holds nothing out, for nothing else reads them."""
    subject_images: int = Field(96, ge=0)
    """Captions with subjects, of each held-out split, that are decoded and judged; 0 = embedding metrics only."""
    bootstrap: int = Field(2000, ge=100)
    """Resamples over prompts behind each 95 % interval."""
    seed: int = Field(0, ge=0)
    """Seeds of prior noise and decoder noise, the same for every method."""
    diffusion_steps: int = Field(25, ge=1)
    """Sampling steps of the diffusion baseline (paper: 25)."""
    diffusion_guidance: float = Field(4.0, ge=1)
    """Guidance of the diffusion baseline (paper: 4.0)."""
    decode: DecodeParams = DecodeParams()


class SelectParams(Section):
    """The written rule by which a prior is chosen, on validation splits only."""

    metric: str = "composition"
    """What is maximised on the held-out validation split (mean over seeds)."""
    cosine_margin: float = Field(0.02, ge=0)
    """A point whose seen-validation image cosine is worse than the best point's by more than this is out."""
    tie: float = Field(0.01, ge=0)
    """Differences in the metric up to this are ties; the smaller λ wins them."""


class TrackingParams(Section):
    """MLflow. The server's address comes from MLFLOW_TRACKING_URI (default: a local SQLite file)."""

    experiment: str = "eclipse"
    """Experiment name."""


class StudyParams(Section):
    """The λ study's own settings (docs/study.md); its sweep and training lie in study/params.yaml's other sections."""

    sizes: tuple[int, ...] = (400, 1500, 6000, 24000)
    """Training pairs of a cell: the first so many of the store."""
    noises: tuple[float, ...] = (0.0, 0.5)
    """Caption noise of a cell."""
    drops: tuple[float, ...] = (0.0, 0.01, 0.1, 0.5)
    """Subject study: shares of training samples whose edges are dropped."""
    edge_seeds: tuple[int, ...] = (0, 1)
    """Subject study: seeds of each of them."""
    other_clip_steps: int = Field(1000, ge=1)
    """Subject study: training steps of the foreign CLIP."""
    bootstrap: int = Field(5000, ge=100)
    """Resamples over prompts behind each interval."""
    bootstrap_seed: int = Field(0, ge=0)
    """Seed of the resampling."""


class Params(Section):
    """All of params.yaml."""

    profile: str = "mini"
    """A name to know the configuration by; nothing branches on it."""
    data: DataParams
    frozen: FrozenParams
    store: StoreParams
    prior: PriorParams
    train: TrainParams
    sweep: SweepParams
    evaluate: EvaluateParams
    decoder: DecoderParams = DecoderParams()
    select: SelectParams
    tracking: TrackingParams
    annotate: AnnotateParams = AnnotateParams()
    subjects: SubjectsParams = SubjectsParams()
    finetune: FinetuneParams = FinetuneParams()
    promote: PromoteParams = PromoteParams()
    serve: ServeParams = ServeParams()
    cluster: ClusterParams = ClusterParams()
    study: StudyParams = StudyParams()

    @model_validator(mode="after")
    def _annotated(self) -> Params:
        if self.subjects.points and not self.annotate.by:
            raise ValueError("subjects.points need subjects: say in annotate.by who annotates, or leave points empty")
        return self
