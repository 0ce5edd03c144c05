"""What answers hold, as the OpenAPI document tells it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class ErrorDetail(_Answer):
    """OpenAI's shape of errors."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorAnswer(_Answer):
    """The body of every answer that is no success."""

    error: ErrorDetail


class Item(_Answer):
    """A wanted picture and what became of it. Only an ``ok`` one has a picture, in the form asked for."""

    index: int
    seed: int
    outcome: Literal["ok", "blocked", "degenerate"]
    b64_json: str | None = None
    url: str | None = None
    at: float | None = None
    """Of an interpolation: 0 is the first prompt, 1 the second."""
    reason: str | None = None
    manifest: dict[str, Any] | None = None
    """Where the picture comes from; the PNG carries the same."""


class InputTokens(_Answer):
    """What the prior reads."""

    text_tokens: int
    image_tokens: int
    """One for each subject and one for an edge map."""


class Usage(_Answer):
    """Tokens as OpenAI counts them: an output token is the image embedding of one picture."""

    input_tokens: int
    input_tokens_details: InputTokens
    output_tokens: int
    total_tokens: int


class Images(_Answer):
    """Finished pictures, in the order asked for."""

    created: int
    """Unix time in seconds."""
    data: list[Item]
    model: str
    size: str
    output_format: Literal["png"] = "png"
    usage: Usage


class EmbeddingItem(_Answer):
    """ẑ_x of one prompt."""

    object: Literal["embedding"] = "embedding"
    index: int
    seed: int
    embedding: list[float]
    """Neither normalised nor scaled: as decoders take it."""
    norm: float


class Embeddings(_Answer):
    """Image embeddings that a prior predicts."""

    object: Literal["list"] = "list"
    data: list[EmbeddingItem]
    model: str
    prior_hash: str


class ModelCard(_Answer):
    """A prior that is served, and where it comes from."""

    id: str
    object: Literal["model"] = "model"
    created: int
    """When the server loaded it, Unix time in seconds."""
    owned_by: str
    variant: str
    role: Literal["champion", "candidate"]
    version: str | None
    prior_hash: str
    release: str
    lineage: dict[str, Any]


class ModelList(_Answer):
    """All priors that are served."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class Limits(_Answer):
    """What a request may ask for, and what it gets when it does not."""

    release: str
    sizes: list[str]
    """``WIDTHxHEIGHT``; the first is the decoder's own, which ``auto`` means."""
    schedulers: list[str]
    """Those that are right with the decoder."""
    scheduler: str
    steps: int
    max_steps: int
    guidance: float
    max_guidance: float
    max_images: int
    """Pictures of a request: ``n`` × prompts, or ``frames``."""
    max_partial_images: int
    max_seed: int
    max_subjects: int
    """0 where no prior that takes subjects is served."""
    max_prompt_characters: int
    max_prompt_tokens: int
    max_body_bytes: int
    max_picture_pixels: int
    picture_formats: list[str]
    request_seconds: float
    url_seconds: float
