"""Pictures as a service hands them out, with a manifest of made-up models."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eclipse.config.serve import ServeParams
from eclipse.personalize.generate import PlacedSubject
from eclipse.releases import Served, ServedPrior
from eclipse.serve.provenance.identity import Identity
from eclipse.serve.provenance.manifest import manifest
from eclipse.serve.provenance.png import png_with_manifest
from eclipse.serve.provenance.signing import Signer
from eclipse.serve.types import Blend, Drawing, Drawn, PriorName, Prompt, Wanted

PRIOR, ENCODER, DECODER = "1" * 64, "2" * 64, "3" * 64
NAME = "eclipse-prior-eclipse-mini"
COMMIT = "f" * 40
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DRAWING = Drawing(steps=15, scheduler="dpm++", guidance=3, height=16, width=24)


def made_served(**lineage: Any) -> Served:
    """A promoted prior whose lineage ``lineage`` changes."""
    told = {
        "method": "eclipse", "point": "eclipse-0.2", "lam": 0.2, "seed": 0, "train_params.steps": 400,
        "dataset_digest": "d" * 64, "store_hash": "5" * 64, "eclipse.dvc_lock": "6" * 64,
        "eclipse.git.commit": COMMIT, "registered.name": NAME, "registered.version": "3", **lineage,
    }  # fmt: skip
    prior = ServedPrior(NAME, "eclipse", "champion", PRIOR, Path("prior"), "3", told)
    return Served((prior,), Path("clip"), Path("decoder"), "4" * 64, ENCODER, DECODER, "sequence-7")


def noise(seed: int = 0, height: int = 16, width: int = 24) -> np.ndarray:
    """A picture uint8 [height, width, 3] of which no two seeds give the same."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def made_drawn(image: np.ndarray | None = None, *, finite: bool = True) -> Drawn:
    name = PriorName(NAME, "eclipse", PRIOR, "3")
    return Drawn(0, noise() if image is None else image, torch.zeros(4), name, finite)


def made_prompt(text: str = "a red star left of a blue heart", *, edges: bool = False) -> Prompt:
    """With the subject "star" where it is in the text."""
    at = text.find("star")
    subjects = (PlacedSubject((at, at + 4), noise(1, 8, 8)),) if at >= 0 else ()
    return Prompt(text, subjects, noise(2, 8, 8) if edges else None)


def made_manifest(
    source: Prompt | Blend | None = None, *, image: np.ndarray | None = None, served: Served | None = None
) -> dict[str, Any]:
    wanted = Wanted(source or made_prompt(), seed=7)
    identity = Identity.of(served or made_served(), ServeParams())
    # A module may call this before the tests' own number of threads is set.
    identity = replace(identity, compute=identity.compute.model_copy(update={"threads": 1}))
    return manifest(made_drawn(image), wanted, DRAWING, identity, created=AT)


def made_png(signer: Signer | None = None, *, image: np.ndarray | None = None, **given: Any) -> bytes:
    """A PNG of :func:`noise` with its manifest."""
    image = noise() if image is None else image
    return png_with_manifest(image, made_manifest(image=image, **given), signer)


def chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and data of each chunk of a PNG."""
    found, at = [], 8
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        found.append((png[at + 4 : at + 8], png[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def joined(parts: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG of these chunks, their checksums right."""
    made = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)
