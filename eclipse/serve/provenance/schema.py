"""The fields of a manifest. A new field is a new :data:`SCHEMA`: readers refuse what they do not know.

Unless it is left out where it has the value that all had before: then only what is new is refused by older readers.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

SCHEMA = "eclipse.manifest/1"

Digest: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 in hexadecimal digits."""
Commit: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]
"""A whole name of a git commit."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Image(_Part):
    """``sha256`` of the pixels, see :func:`eclipse.serve.provenance.canonical.pixels_hash`."""

    sha256: Digest
    height: int
    width: int


class Subject(_Part):
    """A subject: the ``noun`` at the characters ``span`` of the prompt, and the hash of its picture's pixels.

    The picture is the one that the CLIP was given: cut out, on white, of the CLIP's size.
    """

    noun: str
    span: tuple[int, int]
    sha256: Digest


class Shown(_Part):
    """What a picture shows: ``control`` is the hash of an edge map's pixels, in the CLIP's size."""

    prompt: str
    subjects: tuple[Subject, ...]
    control: Digest | None


class Blended(_Part):
    """A point between two prompts: ``at`` 0 is ``first``, 1 is ``second``."""

    first: Shown
    second: Shown
    at: float
    mode: Literal["linear", "slerp"]


class Request(_Part):
    """What was asked for, every default filled in: a ``prompt`` with its pictures, or a ``blend`` of two."""

    prompt: str | None
    subjects: tuple[Subject, ...]
    control: Digest | None
    blend: Blended | None
    model: str
    negative_prompt: str
    seed: int
    steps: int
    scheduler: str
    guidance: float
    height: int
    width: int

    @property
    def shown(self) -> tuple[Shown, ...]:
        """The one prompt, or the two of a blend."""
        if self.blend is not None:
            return self.blend.first, self.blend.second
        return (Shown(prompt=self.prompt or "", subjects=self.subjects, control=self.control),)

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Request:
        if (self.prompt is None) != (self.blend is not None) or (self.blend and (self.subjects or self.control)):
            raise ValueError("either a prompt with its pictures or a blend")
        return self


class Registered(_Part):
    """A version in the registry."""

    name: str
    version: str


class Prior(_Part):
    """The prior, the ``role`` that it had and the ``release`` that it was served in."""

    hash: Digest
    variant: Literal["eclipse", "lambda-eclipse"]
    role: Literal["champion", "candidate"]
    release: str
    registered: Registered | None


class Frozen(_Part):
    """The CLIP's weights and configuration, and the decoder's files."""

    encoder_hash: Digest
    decoder_hash: Digest


class Training(_Part):
    """The training run of the prior; None is what its record does not tell."""

    method: str | None
    point: str | None
    lam: float | None
    seed: int | None
    steps: int | None


class Data(_Part):
    """What the prior was trained on, and the code that did it."""

    dataset_digest: str | None
    store_hash: str | None
    dvc_lock: str | None
    commit: Commit | None


class Service(_Part):
    """The program that made the picture; ``commit`` and ``dirty`` (files differ from it) only in a checkout."""

    name: str
    version: str
    commit: Commit | None
    dirty: bool | None


class Compute(_Part):
    """What a picture's bits depend on beside all above: machine, libraries, the shapes of the batches.

    ``precision`` is the type of the decoder's weights and arithmetic, left out where it is ``fp32``.
    """

    device: str
    processor: str
    instructions: str
    threads: int
    slots: int
    exact: bool
    prior_batch: int
    torch: str
    diffusers: str
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"

    @model_serializer(mode="wrap")
    def _without_fp32(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        told: dict[str, Any] = handler(self)
        if self.precision == "fp32":
            told.pop("precision", None)
        return told


class Manifest(_Part):
    """All of it but the ``digest``, which is taken of it. ``created`` is UTC, ISO 8601."""

    schema_: Literal["eclipse.manifest/1"] = Field("eclipse.manifest/1", alias="schema")
    created: str
    image: Image
    request: Request
    prior: Prior
    frozen: Frozen
    training: Training
    data: Data
    service: Service
    compute: Compute
