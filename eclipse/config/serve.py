"""Parameters of the service: what a request may ask for, and how much work is taken on at once."""

from __future__ import annotations

from pydantic import Field, model_validator

from eclipse.config.decoder import Sampler
from eclipse.config.section import Section


class ServeParams(Section):
    """The service of ``bentoml serve``. Sizes of pictures and embeddings come from the models, not from here."""

    decoder: str = Field("mini", pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    """The decoder's name in registered models (``eclipse-prior-eclipse-mini``)."""
    steps: int = Field(15, ge=1)
    """Decoder steps of a request that names none."""
    max_steps: int = Field(100, ge=1)
    """Most decoder steps of a request."""
    scheduler: Sampler = "dpm++"
    """Sampler of a request that names none."""
    guidance: float = Field(3.0, ge=0, le=20)
    """Decoder guidance of a request that names none; 1 = none."""
    max_images: int = Field(10, ge=1)
    """Most pictures of one request (``n`` × prompts, or the steps of an interpolation)."""
    sizes: tuple[str, ...] = ()
    """Sizes (``WIDTHxHEIGHT``) that may be asked for beside the decoder's own."""
    slots: int = Field(4, ge=1)
    """Pictures that the decoder works on at once. A picture joins and leaves between two steps."""
    exact: bool = True
    """Always compute all slots, so that a picture's bits do not depend on its neighbours. ``false`` computes only those
    in use: quicker for a lone request, equal up to rounding only."""
    prior_batch: int = Field(4, ge=1)
    """Prompts that text encoder and prior take on between two decoder steps; not ``exact``, they share one call."""
    max_pending: float = Field(400, gt=0)
    """Work taken on at once, in decoder steps of one picture of the decoder's own size; beyond it there is a 429."""
    request_seconds: float = Field(120, gt=0)
    """After so long a request is given up with a 504 and its slots are freed."""
    drain_seconds: float = Field(30, ge=0)
    """How long a server that is told to stop goes on with what it took on."""
    max_body_mb: float = Field(20, gt=0)
    """Largest request body, in 10⁶ bytes."""
    max_picture_mp: float = Field(16, gt=0)
    """Largest subject or edge picture, in 10⁶ pixels, told from its header."""
    max_prompt_characters: int = Field(1000, ge=1)
    """Longest prompt; the CLIP's context limits it further."""
    url_seconds: float = Field(3600, gt=0)
    """How long a picture of ``response_format: url`` can be fetched."""
    url_mb: float = Field(256, gt=0)
    """Memory for such pictures, in 10⁶ bytes; the oldest go first."""
    poll_seconds: float = Field(2.0, gt=0)
    """How often a server looks for a new champion."""
    shadow_share: float = Field(0.0, ge=0, le=1)
    """Share of live prompts that the candidate prior predicts too, for comparison only."""
    safety_checker: str | None = None
    """Name of an installed safety checker (entry point group ``eclipse.safety_checkers``); null = none."""

    @model_validator(mode="after")
    def _consistent(self) -> ServeParams:
        if self.steps > self.max_steps:
            raise ValueError(f"steps {self.steps} is more than max_steps {self.max_steps}")
        return self
