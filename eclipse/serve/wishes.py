"""Requests, checked against the models that are loaded, as the engine's jobs."""

from __future__ import annotations

import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eclipse.errors import DataError, EclipseError
from eclipse.personalize.edges import control_picture
from eclipse.personalize.generate import PlacedSubject
from eclipse.personalize.picture import subject_picture
from eclipse.personalize.prompt import Span, SubjectArgument, clean, resolve
from eclipse.serve import pictures
from eclipse.serve.errors import ApiError
from eclipse.serve.schema import Drawn, Streamed
from eclipse.serve.serving import Serving
from eclipse.serve.types import Drawing, Prompt, Wanted

_RANDOM_SEEDS = 2**32


@dataclass(frozen=True)
class SubjectBytes:
    """A subject as it was sent: the ``noun``, the picture's file, and the field that errors name."""

    noun: str
    content: bytes
    param: str


def prompt_of(serving: Serving, text: str, param: str) -> Prompt:
    """``text`` as it will be tokenised; :class:`ApiError` 400 where it is empty, too long or has control characters."""
    most = serving.params.max_prompt_characters
    if len(text) > most:
        raise ApiError(400, f"{param}: {len(text)} characters, but at most {most} are read", param=param)
    text = clean(text)
    if not text:
        raise ApiError(400, f"{param}: is empty; describe the picture", param=param)
    if any(unicodedata.category(character) == "Cc" and not character.isspace() for character in text):
        raise ApiError(400, f"{param}: holds control characters; remove them", param=param)
    try:
        serving.clip.tokenize([text])
    except DataError as error:
        raise ApiError(400, f"{param}: {error}", param=param, code="prompt_too_long") from None
    return Prompt(text)


def prompts_of(serving: Serving, given: str | list[str]) -> list[Prompt]:
    """One prompt or several."""
    if isinstance(given, str):
        return [prompt_of(serving, given, "prompt")]
    return [prompt_of(serving, text, f"prompt.{i}") for i, text in enumerate(given)]


def personal_prompt(serving: Serving, text: str, subjects: Sequence[SubjectBytes], edges: bytes | None) -> Prompt:
    """A prompt with subjects at their nouns and an edge map. Unpacks pictures: call it in a thread."""
    if not subjects and edges is None:
        raise ApiError(400, "give at least one subject (image and noun) or edges; without, use /v1/images/generations")
    plain = prompt_of(serving, text, "prompt")
    spans = _spans(serving, plain.text, subjects)
    placed = tuple(_placed(serving, *pair) for pair in zip(subjects, spans, strict=True))
    return Prompt(plain.text, placed, None if edges is None else _control(serving, edges))


def check_count(serving: Serving, count: int, param: str) -> None:
    """:class:`ApiError` 400 where a request wants more pictures than one may."""
    most = serving.params.max_images
    if count > most:
        raise ApiError(400, f"{param}: {count} pictures, but a request may have at most {most}", param=param)


def wanted_of(prompts: Sequence[Prompt], n: int, seed: int | None) -> tuple[Wanted, ...]:
    """``n`` pictures of each prompt, in order, with the seeds ``seed`` + 0, 1, …; a random ``seed`` for None."""
    first = first_seed(seed)
    return tuple(Wanted(prompt, first + i) for prompt in prompts for i in range(n))


def first_seed(seed: int | None) -> int:
    """``seed``, or a random one."""
    return secrets.randbelow(_RANDOM_SEEDS) if seed is None else seed


def drawing_of(serving: Serving, request: Drawn) -> Drawing:
    """How to draw, with the defaults of the parameters; :class:`ApiError` 400 beyond their limits."""
    params = serving.params
    steps = params.steps if request.steps is None else request.steps
    if steps > params.max_steps:
        raise ApiError(400, f"steps: {steps}, but at most {params.max_steps} are made", param="steps")
    width, height = _size(serving, request.size)
    negative = request.negative_prompt or ""
    drawing = Drawing(
        steps=steps,
        scheduler=_scheduler(serving, request.scheduler),
        guidance=params.guidance if request.guidance is None else request.guidance,
        height=height,
        width=width,
        negative_prompt=prompt_of(serving, negative, "negative_prompt").text if negative.strip() else "",
    )
    try:
        serving.engine.check(drawing)
    except EclipseError as error:
        raise ApiError(400, str(error), param=str(error).partition(":")[0]) from None
    return drawing


def check_stream(request: Streamed, prompts: int) -> None:
    """:class:`ApiError` 400 where what is asked of a stream cannot be."""
    if request.partial_images and not request.stream:
        raise ApiError(400, "partial_images: are sent by a stream only; add stream=true", param="partial_images")
    if request.stream and prompts > 1:
        raise ApiError(400, "prompt: a stream has one prompt; send one request for each", param="prompt")
    if request.stream and request.response_format == "url":
        raise ApiError(400, "response_format: a stream sends b64_json only", param="response_format")


def _scheduler(serving: Serving, asked: str | None) -> str:
    if asked is not None and asked not in serving.schedulers:
        raise ApiError(
            400,
            f"scheduler: {asked} is not right with this decoder; give {', '.join(serving.schedulers)}",
            param="scheduler",
        )
    return asked or serving.params.scheduler


def _size(serving: Serving, asked: str | None) -> tuple[int, int]:
    sizes = serving.sizes
    name = sizes[0] if asked in (None, "auto") else str(asked)
    if name not in sizes:
        raise ApiError(400, f"size: {name} cannot be drawn; give auto or {', '.join(sizes)}", param="size")
    width, _, height = name.partition("x")
    return int(width), int(height)


def _spans(serving: Serving, prompt: str, subjects: Sequence[SubjectBytes]) -> list[Span]:
    arguments = [_argument(subject) for subject in subjects]
    try:
        spans = resolve(prompt, arguments, limit=serving.max_subjects)
        for span in spans:
            serving.clip.token_span(prompt, span)
    except DataError as error:
        raise ApiError(400, str(error).replace("--subject", "noun"), param="noun") from None
    return spans


def _argument(subject: SubjectBytes) -> SubjectArgument:
    noun, _, number = subject.noun.partition("#")
    noun = " ".join(clean(noun).split())
    if not noun:
        raise ApiError(400, "noun: is empty; give the word of the prompt that the picture stands for", param="noun")
    return SubjectArgument(noun, int(number) if number else None, Path(subject.param))


def _placed(serving: Serving, subject: SubjectBytes, span: Span) -> PlacedSubject:
    picture = pictures.read(subject.content, subject.param, serving.max_pixels)
    try:
        return PlacedSubject(span, subject_picture(picture, serving.clip.image_size))
    except DataError as error:
        raise ApiError(400, f"{subject.param}: {error}", param=subject.param, code="invalid_image") from None


def _control(serving: Serving, edges: bytes) -> NDArray[np.uint8]:
    return control_picture(pictures.read(edges, "edges", serving.max_pixels), serving.clip.image_size)[0]
