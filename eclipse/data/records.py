"""One captioned image, and the description of a shard of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

TRAIN = "train"
EVALUATION_SPLITS = ("val_seen", "val_held_out", "test_seen", "test_held_out")
SPLITS = (TRAIN, *EVALUATION_SPLITS)


@dataclass(frozen=True)
class Record:
    """``id`` sorts in dataset order and has no dot or slash; ``meta`` is JSON-able.

    ``image`` is a PNG or JPEG file's bytes. Pictures of one dataset have one size, but for those of ``img2dataset``,
    which are kept as they came.

    ``extras`` holds further files by the name of their part, such as the subject pictures of annotated data
    (``subject0.png``, see :mod:`eclipse.data.subjects`).
    """

    id: str
    caption: str
    image: bytes
    meta: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, bytes] = field(default_factory=dict)


class Described(BaseModel):
    """A frozen piece of the manifest; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Shard(Described):
    """One tar file: ``file`` is relative to the dataset folder, ``bytes`` its size."""

    file: str
    count: int
    sha256: str
    bytes: int
