"""Concept folders as finetuning needs them: latents to denoise, z_x to condition on, and who comes up in which step."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from eclipse.errors import CheckpointError, ConfigError, DataError
from eclipse.files import sha256
from eclipse.models.clip import FrozenClip
from eclipse.models.decoder import Decoder
from eclipse.personalize.picture import load_picture

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Concept:
    """A named set of pictures: ``images`` uint8 [S, S, 3], each square in its own size; ``sources`` says where from.

    ``sources`` maps a picture's name to the SHA-256 of what it was read from, in the order of ``images``.
    """

    name: str
    images: tuple[NDArray[np.uint8], ...]
    sources: dict[str, str]


@dataclass(frozen=True)
class Material:
    """What finetuning sees of N pictures, concept after concept.

    ``latents`` float32 [N, C, h, w] of the MoVQ, ``image_embeds`` z_x float32 [N, P] (both on the CPU), ``counts`` the
    number of pictures of each concept, ``names`` one name per picture for error messages.
    """

    latents: Tensor
    image_embeds: Tensor
    counts: tuple[int, ...]
    names: tuple[str, ...]


def parse_concepts(texts: Sequence[str]) -> dict[str, Path]:
    """``NAME=FOLDER`` (or one picture for the folder), each name once. :class:`ConfigError` for anything else."""
    found: dict[str, Path] = {}
    for text in texts:
        name, equals, place = text.partition("=")
        if not equals or not name.strip() or not place.strip():
            raise ConfigError(f"--concept {text!r}: write NAME=FOLDER, for example my-toy=photos/")
        if name.strip() in found:
            raise ConfigError(f"--concept {name.strip()!r} is given twice; put all of its pictures into one folder")
        found[name.strip()] = Path(place.strip())
    if not found:
        raise ConfigError("--concept is missing; write --concept NAME=FOLDER, for example my-toy=photos/")
    return found


def load_concept(name: str, place: Path) -> Concept:
    """Read all pictures in ``place`` (not below it), sorted by name, cut square about the middle as CLIP cuts them.

    Files that are no pictures by their ending are left out with a warning. :class:`DataError` for a picture that
    cannot be read, and where there is none.
    """
    paths = [place] if place.is_file() else _pictures_in(name, place)
    if not paths:
        raise DataError(f"{place}: holds no pictures for concept {name!r}; put PNG or JPEG files there")
    images = tuple(_square(load_picture(path).image) for path in paths)
    return Concept(name, images, {path.name: sha256(path) for path in paths})


def _pictures_in(name: str, folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; --concept {name}=FOLDER needs a folder of pictures")
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    known = Image.registered_extensions()
    other = [path.name for path in files if path.suffix.lower() not in known]
    if other:
        log.warning("%s: left out, not pictures by their ending: %s", folder, ", ".join(other))
    return [path for path in files if path.suffix.lower() in known]


def _square(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side].copy()  # writable, as torch wants it, and the rest is freed


def make_material(concepts: Sequence[Concept], clip: FrozenClip, decoder: Decoder) -> Material:
    """Encode all pictures once, as both encoders are frozen: z_x at the picture's own size, latents at the decoder's.

    Latents stay as ``movq.encode`` gives them: ``KandinskyV22Pipeline`` hands them to ``movq.decode`` unscaled.
    :class:`CheckpointError` where CLIP and decoder do not belong together.
    """
    if clip.projection_dim != decoder.embedding_dim:
        raise CheckpointError(
            f"the CLIP's embeddings have {clip.projection_dim} dimensions, the decoder takes {decoder.embedding_dim}; "
            "give a --frozen folder whose clip and decoder belong together"
        )
    images = [image for concept in concepts for image in concept.images]
    names = tuple(f"{concept.name}/{source}" for concept in concepts for source in concept.sources)
    for name, image in zip(names, images, strict=True):
        if len(image) < decoder.image_size:
            log.warning("%s: %d pixels wide, enlarged to the decoder's %d", name, len(image), decoder.image_size)
    embeds = torch.cat([clip.encode_image(image[None]).cpu() for image in images])
    latents = torch.cat([_latents(decoder, image) for image in images])
    return Material(latents, embeds, tuple(len(concept.images) for concept in concepts), names)


@torch.no_grad()
def _latents(decoder: Decoder, image: NDArray[np.uint8]) -> Tensor:
    movq, size = decoder.movq, decoder.image_size
    shrinks = len(image) > size
    fitted = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    pixels = torch.from_numpy(np.ascontiguousarray(fitted)).permute(2, 0, 1)[None].float() / 127.5 - 1
    latents: Tensor = movq.encode(pixels.to(movq.device)).latents.cpu()
    return latents


def batch_indices(counts: Sequence[int], seed: int, step: int, size: int) -> NDArray[np.int64]:
    """Pictures int64 [size] of optimiser step ``step`` (from 0), a pure function of its arguments.

    Concepts take turns, so each comes up equally often whatever the number of its pictures; within a concept all
    pictures come up once before one comes up again.
    """
    first = np.cumsum([0, *counts])
    places = []
    for position in range(step * size, (step + 1) * size):
        turn, concept = divmod(position, len(counts))
        epoch, within = divmod(turn, counts[concept])
        order = np.random.default_rng([seed, concept, epoch]).permutation(counts[concept])
        places.append(first[concept] + order[within])
    return np.array(places, np.int64)
