"""What requests may hold; a field that is not here is refused by name. Limits that depend on parameters or models are
put into the OpenAPI document when the app is made, see :mod:`eclipse.serve.document`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

LARGEST_SEED = 2**53 - 1
"""Every JSON reader, JavaScript's too, keeps integers up to here exact."""

Text = Annotated[str, Field(min_length=1)]
Size = Annotated[str, Field(pattern=r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$")]
Noun = Annotated[str, Field(pattern=r"^[^#=]+(#[1-9][0-9]{0,2})?$", max_length=100)]


class _Request(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class _Seeded(_Request):
    model: str | None = Field(None, max_length=200)
    """An id of ``GET /v1/models``; without it, the champion of the variant that the request needs."""
    seed: int | None = Field(None, ge=0, le=LARGEST_SEED)
    """Of the noise of prior and decoder; random when it is left out, and told in the answer."""


class Drawn(_Seeded):
    """How pictures are drawn and given back; the last six fields are OpenAI's and change nothing here."""

    size: Size | None = None
    """``auto`` (the decoder's own) or one of ``sizes`` in ``GET /v1/limits``."""
    steps: int | None = Field(None, ge=1)
    """Decoder steps."""
    guidance: float | None = Field(None, ge=0, le=20)
    """Decoder guidance; 1 and below is none."""
    scheduler: Annotated[str, Field(max_length=20)] | None = None
    """One of ``schedulers`` in ``GET /v1/limits``: those that are right with the decoder."""
    negative_prompt: str | None = None
    """What guidance leads away from; without it, from "no picture"."""
    response_format: Literal["b64_json", "url"] | None = "b64_json"
    output_format: Literal["png"] | None = None
    output_compression: Literal[100] | None = None
    background: Literal["auto", "opaque"] | None = None
    quality: Literal["auto"] | None = None
    moderation: Literal["auto"] | None = None
    user: str | None = None
    safety_identifier: str | None = None


class Streamed(Drawn):
    """Several pictures of a prompt, all at the end or as they come."""

    n: int | None = Field(1, ge=1)
    """Pictures of each prompt; picture i has the seed ``seed`` + i."""
    stream: bool | None = False
    """Answer by server-sent events."""
    partial_images: int | None = Field(0, ge=0, le=3)
    """Unfinished pictures that are sent on the way to each; needs ``stream``."""


class Generation(Streamed):
    """Pictures of prompts."""

    prompt: Text | Annotated[list[Text], Field(min_length=1)]
    """One prompt or several; with ``stream`` one."""


class Subject(_Request):
    """A subject's picture and the word of the prompt that it stands for."""

    noun: Noun
    """A word or words of the prompt; ``dog#2`` is the second "dog" in it."""
    image: Text
    """A PNG, JPEG or WebP file in base64, or as a ``data:`` URL. Nothing else is ever fetched or opened."""


class Edit(Streamed):
    """Pictures of a prompt with one's own subjects, edges, or both."""

    prompt: Text
    subjects: list[Subject] = []
    edges: Text | None = None
    """A picture whose edges, or an edge map whose lines, the result follows; written as a subject's ``image``."""


class Embedding(_Seeded):
    """The prior's prediction for prompts, without pictures."""

    prompt: Text | Annotated[list[Text], Field(min_length=1)]


class Interpolation(Drawn):
    """Pictures on the way from one prompt to another, all drawn with the same seed."""

    from_: Text = Field(alias="from")
    to: Text
    frames: int | None = Field(5, ge=2)
    """Pictures, the two ends among them."""
    mode: Literal["slerp", "linear"] | None = "slerp"
    """The way between the two image embeddings: along the sphere or straight."""


class EditForm(Streamed):
    """:class:`Edit` as a form: the n-th ``image`` file (also ``image[]``) belongs to the n-th ``noun`` (``noun[]``)."""

    prompt: Text
    noun: list[Noun] = []
