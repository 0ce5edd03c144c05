"""Pictures for one prompt, with a person's own subjects and edges (λ-ECLIPSE, arXiv 2402.05195, §3.1–3.2)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from eclipse.config.decoder import DecoderParams
from eclipse.config.params import DecodeParams, EvaluateParams
from eclipse.errors import CheckpointError, DataError
from eclipse.files import read_json
from eclipse.models.api import Captions, predict
from eclipse.models.checkpoint import Prior, kind_of, load_prior
from eclipse.models.clip import FrozenClip, TextEncoding
from eclipse.models.decoder import Decoder, load_decoder
from eclipse.models.device import pick
from eclipse.models.interleave import interleave
from eclipse.personalize.picture import Picture, subject_picture

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tools:
    """The models that a picture passes through, and the folder that the prior came from."""

    clip: FrozenClip
    prior: Prior
    decoder: Decoder
    folder: Path


@dataclass(frozen=True)
class PlacedSubject:
    """A subject's ``picture`` uint8 [S, S, 3] and the characters ``span`` of the prompt that it stands for."""

    span: tuple[int, int]
    picture: NDArray[np.uint8]


@dataclass(frozen=True)
class Request:
    """What to draw: ``control`` uint8 [S, S, 3] is an edge map; ``seeds`` hold one for each picture wanted."""

    prompt: str
    seeds: tuple[int, ...]
    subjects: tuple[PlacedSubject, ...] = ()
    control: NDArray[np.uint8] | None = None


def place_subjects(
    files: Sequence[Path], spans: Sequence[tuple[int, int]], pictures: Sequence[Picture], size: int
) -> tuple[PlacedSubject, ...]:
    """Each picture as a subject of the CLIP's ``size`` at its span; one that cannot be is told by its file's name."""
    placed = []
    for file, span, picture in zip(files, spans, pictures, strict=True):
        try:
            placed.append(PlacedSubject(span, subject_picture(picture, size)))
        except DataError as error:
            raise DataError(f"{file}: {error}") from None
    return tuple(placed)


def load_tools(
    *, prior: Path, clip: FrozenClip, decoder: Path, any_encoder: bool = False, memory: DecoderParams | None = None
) -> Tools:
    """The prior and decoder of these folders for ``clip``, on its device; the decoder held as ``memory`` says.

    A prior that was trained on another CLIP, or does not say on which, is a :class:`CheckpointError` unless
    ``any_encoder``, which makes it a warning. Widths that do not fit are refused anyway.
    """
    model = load_prior(prior, device=clip.device)
    _check_widths(model, prior, clip)
    _check_encoder(prior, clip, any_encoder=any_encoder)
    tools = Tools(clip, model, load_decoder(decoder, memory, device=clip.device), prior)
    if tools.decoder.embedding_dim != clip.projection_dim:
        raise CheckpointError(
            f"{decoder}: takes embeddings {tools.decoder.embedding_dim} wide, but {clip.name} makes "
            f"{clip.projection_dim}; give the decoder that belongs to it"
        )
    return tools


def load_clip(frozen: Path) -> FrozenClip:
    """The CLIP of a folder of frozen models, on the device found."""
    return FrozenClip.load(frozen / "clip", device=pick())


def predict_embeds(tools: Tools, request: Request, params: EvaluateParams) -> Tensor:
    """ẑ_x float32 [n, P], one for each seed of ``request``, on the prior's device.

    Each is computed in a batch of its own, and so is each subject's vector, so that on the CPU it has the same bits
    whatever else is asked for. Subjects or edges need a λ-ECLIPSE prior: another is a :class:`CheckpointError`.
    """
    _check_kind(tools, request)
    captions = encode(tools.clip, request.prompt, request.subjects)
    control = control_embeds(tools, request)
    return torch.cat([embed(tools, captions, control, seed, params) for seed in request.seeds])


def control_embeds(tools: Tools, request: Request) -> Tensor | None:
    """The control token's embedding float32 [1, P], of the edges or of "no picture"; None for a prior without one."""
    if kind_of(tools.prior) != "lambda-eclipse":
        return None
    clip = tools.clip
    return clip.encode_nothing() if request.control is None else clip.encode_image(request.control[None])


def embed(tools: Tools, captions: Captions, control: Tensor | None, seed: int, params: EvaluateParams) -> Tensor:
    """ẑ_x float32 [1, P] of one encoded prompt and its ``control`` [1, P], with the prior's noise of ``seed``."""
    return predict(
        tools.prior,
        captions,
        seeds=[seed],
        control_embeds=control,
        diffusion_steps=params.diffusion_steps,
        guidance=params.diffusion_guidance,
    )


def generate(tools: Tools, request: Request, params: EvaluateParams) -> NDArray[np.uint8]:
    """Pictures uint8 [n, H, W, 3] of ``request``, the noise of prior and decoder being that of each one's seed.

    On the CPU a picture has the same bits however many are asked for, and whichever others.
    """
    return decode_each(tools, predict_embeds(tools, request, params), request.seeds, params.decode, request.prompt)


def decode_each(
    tools: Tools, embeds: Tensor, seeds: Sequence[int], settings: DecodeParams, prompt: str
) -> NDArray[np.uint8]:
    """Pictures uint8 [n, H, W, 3] of ``embeds`` [n, P] with a decoder seed each, decoded one at a time.

    A decoder that reads text reads ``prompt``; "" where there is none.
    """
    negative = tools.decoder.negative(tools.clip.encode_nothing) if settings.guidance > 1 else None
    pictures = [
        tools.decoder.decode(
            embeds[i : i + 1],
            seeds=[seed],
            steps=settings.steps,
            scheduler=settings.scheduler,
            guidance=settings.guidance,
            negative_embeds=negative,
            prompts=[prompt],
        )
        for i, seed in enumerate(tqdm(seeds, desc="decode", delay=2.0, leave=False))
    ]
    return np.concatenate(pictures)


def encode(clip: FrozenClip, prompt: str, subjects: Sequence[PlacedSubject]) -> TextEncoding:
    """The prompt as a batch of one, the states of each subject's noun being its picture's projected vector."""
    encoding = clip.encode_text(clip.tokenize([prompt]))
    if not subjects:
        return encoding
    tokens = torch.tensor([clip.token_span(prompt, subject.span) for subject in subjects])
    embeds = torch.cat([clip.encode_image(subject.picture[None]) for subject in subjects])
    owner = torch.zeros(len(subjects), dtype=torch.int64)
    states = interleave(encoding.text_states, encoding.lengths, embeds, owner, tokens[:, 0], tokens[:, 1])
    return replace(encoding, text_states=states)


def _check_kind(tools: Tools, request: Request) -> None:
    kind = kind_of(tools.prior)
    asked = [name for name, given in (("subjects", request.subjects), ("edges", request.control is not None)) if given]
    if asked and kind != "lambda-eclipse":
        raise CheckpointError(
            f"{tools.folder}: a prior of kind {kind} takes no {' and no '.join(asked)}; give a λ-ECLIPSE prior by "
            "--prior, or leave --subject and --canny out"
        )
    point = str(_record(tools.folder).get("point", ""))
    if request.control is not None and point.startswith("lambda-") and not point.endswith("-edges"):
        log.warning("warning: %s: %s was trained without edges; they may not hold", tools.folder, point)


def _check_widths(prior: Prior, folder: Path, clip: FrozenClip) -> None:
    states = prior.encoder_hidden_states_proj.in_features
    mine, given = (prior.config.embedding_dim, states), (clip.projection_dim, clip.state_dim)
    if mine != given:
        raise CheckpointError(
            f"{folder}: made for a CLIP of {mine[0]} wide embeddings and {mine[1]} wide text states, but {clip.name} "
            f"has {given[0]} and {given[1]}; give the --frozen folder that it was trained with"
        )


def _check_encoder(folder: Path, clip: FrozenClip, *, any_encoder: bool) -> None:
    trained_on = _record(folder).get("encoder_hash")
    if trained_on == clip.weights_hash:
        return
    fault = (
        f"{folder}: trained on the CLIP {str(trained_on)[:12]}, but {clip.name} is {clip.weights_hash[:12]}"
        if trained_on
        else f"{folder}: no training.json says on which CLIP it was trained"
    )
    if not any_encoder:
        raise CheckpointError(f"{fault}; give the --frozen folder that it was trained with, or add --any-encoder")
    log.warning("warning: %s; its pictures may not show what is asked for", fault)


def _record(folder: Path) -> dict[str, Any]:
    """What training.json says; nothing for a prior that comes without, such as a published one."""
    path = folder / "training.json"
    record = read_json(path) if path.is_file() else {}
    return record if isinstance(record, dict) else {}
