"""The frozen models that a prior stands between: shipped, trained small, or published."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from eclipse.config.section import Section


class FitParams(Section):
    """The training length of one frozen model."""

    steps: int = Field(ge=1)
    """Optimiser steps."""
    batch_size: int = Field(ge=2)
    """Images in a batch."""
    lr: float = Field(gt=0)
    """Peak learning rate."""


class HubEncoder(Section):
    """A published CLIP, in open_clip's form or in transformers'."""

    repo: str
    """``OWNER/NAME`` on Hugging Face, or a local folder of the same layout."""
    revision: str | None = Field(None, pattern=r"^[0-9a-f]{40}$")
    """The full commit; null only for a local folder."""
    logit_scale: float | None = Field(None, gt=0)
    """1/τ where the files do not hold it, as those of a pipeline's two towers do not."""


class HubDecoder(Section):
    """A published decoder; used by reference, never copied."""

    repo: str
    """``OWNER/NAME`` on Hugging Face, or a local folder of a diffusers pipeline."""
    revision: str | None = Field(None, pattern=r"^[0-9a-f]{40}$")
    """The full commit; null only for a local folder."""


class HubParams(Section):
    """The published models of ``frozen.source: hub``."""

    encoder: HubEncoder
    decoder: HubDecoder


class FrozenParams(Section):
    """The frozen CLIP and decoder that a prior stands between."""

    source: Literal["shipped", "train", "hub"] = "shipped"
    """Use the models at ``path`` (digests checked), train small ones on this dataset's training split, or take the
    published ones of ``hub``."""
    path: Path = Path("models/mini")
    """Folder with clip/, decoder/ and, where there is one, oracle/."""
    clip: FitParams = FitParams(steps=2400, batch_size=256, lr=1e-3)
    movq: FitParams = FitParams(steps=2000, batch_size=16, lr=2e-3)
    decoder: FitParams = FitParams(steps=9000, batch_size=32, lr=1e-3)
    oracle: FitParams = FitParams(steps=1000, batch_size=96, lr=2e-3)
    seed: int = Field(0, ge=0)
    """Initialisation and batch order."""
    hub: HubParams | None = None
    """With ``source: hub``: what is taken."""

    @model_validator(mode="after")
    def _named(self) -> FrozenParams:
        if self.source == "hub" and self.hub is None:
            raise ValueError("frozen.source=hub needs frozen.hub.encoder.repo and frozen.hub.decoder.repo")
        return self
