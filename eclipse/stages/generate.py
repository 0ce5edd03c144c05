"""Command ``generate``: pictures for a prompt with the person's own subjects and edges."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eclipse import __version__
from eclipse.config.params import Params
from eclipse.data.images import encode_png
from eclipse.errors import CheckpointError, ConfigError, DataError
from eclipse.files import atomic_folder, sha256, write_json
from eclipse.personalize.edges import control_picture
from eclipse.personalize.picture import Picture, load_picture, load_subject
from eclipse.personalize.prompt import Span, SubjectArgument, clean, parse_subject, resolve
from eclipse.personalize.sheet import Labelled, draw_sheet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from eclipse.personalize.generate import Request, Tools

SELECTED = Path("artifacts/selected")
SELECTED_FOR_SUBJECTS = Path("artifacts/subjects/selected")
RECORD = "generation.json"

_OURS = re.compile(r"\d{4,}\.png|sheet\.png|generation\.json")


@dataclass(frozen=True)
class _Inputs:
    """The person's files, read and checked; ``spans`` belong to ``subjects`` one by one."""

    prompt: str
    subjects: list[SubjectArgument]
    spans: list[Span]
    pictures: list[Picture]
    control: Picture | None


def run(
    params: Params,
    *,
    prompt: str,
    subject: tuple[str, ...] = (),
    canny: Path | None = None,
    seed: int = 0,
    n: int = 1,
    segment: bool = False,
    prior: Path | None = None,
    frozen: Path = Path("artifacts/frozen"),
    decoder: Path | None = None,
    any_encoder: bool = False,
    out: Path = Path("generated"),
) -> dict[str, Any]:
    """Draw pictures for a prompt, with your own subjects (NOUN=FILE or NOUN#2=FILE) and edges.

    Picture i has the seed ``seed`` + i for the noise of prior and decoder; on the CPU its bits depend on nothing else
    than its own inputs. ``out`` gets 0001.png …, sheet.png and generation.json, which records all that they came
    from; a folder that holds anything else is not overwritten. ``prior`` is the one selected for subjects where
    there are subjects or ``canny``, else the one selected for text; ``decoder`` (a finetuned one) is ``frozen``'s.
    """
    _check_out(out)
    if n < 1 or not 0 <= seed < 2**63 - n:
        raise ConfigError(f"--seed {seed} -n {n}: give at least one picture and a seed from 0 on")
    inputs = _read(params, prompt, subject, canny, segment=segment)
    prior = prior or (SELECTED_FOR_SUBJECTS if subject or canny else SELECTED)
    from eclipse.models.decoder import decoder_folder

    decoder = decoder or decoder_folder(frozen)
    for flag, folder in (("prior", prior), ("frozen", frozen), ("decoder", decoder)):
        if not folder.is_dir():
            raise CheckpointError(f"{folder}: no such folder; run `dvc repro`, or give --{flag}")
    from eclipse.personalize.generate import generate, load_clip, load_tools

    clip = load_clip(frozen)
    request, as_given = _request(inputs, clip.image_size, tuple(range(seed, seed + n)))
    clip.tokenize([request.prompt])  # too long a prompt is told before the larger models are read
    tools = load_tools(prior=prior, clip=clip, decoder=decoder, any_encoder=any_encoder, memory=params.decoder)
    images = generate(tools, request, params.evaluate)
    record = _record(inputs, request, tools) | {
        "decoder": str(decoder),
        "decode": params.evaluate.decode.model_dump(mode="json"),
        "control": None if canny is None else {**_named(canny), "edges": "as given" if as_given else "canny"},
    }
    _write(out, images, _sheet_inputs(inputs, request), record)
    return record


def _read(params: Params, prompt: str, subject: tuple[str, ...], canny: Path | None, *, segment: bool) -> _Inputs:
    prompt = clean(prompt)
    subjects = [parse_subject(text) for text in subject]
    spans = resolve(prompt, subjects, limit=params.annotate.filters.subjects[1])
    loaded = {file: load_subject(file, segment=segment) for file in dict.fromkeys(item.file for item in subjects)}
    pictures = [loaded[item.file] for item in subjects]
    return _Inputs(prompt, subjects, spans, pictures, None if canny is None else load_picture(canny))


def _request(inputs: _Inputs, size: int, seeds: tuple[int, ...]) -> tuple[Request, bool]:
    """What to draw, with pictures of the CLIP's ``size``, and whether the control picture was an edge map already."""
    from eclipse.personalize.generate import Request, place_subjects

    placed = place_subjects([item.file for item in inputs.subjects], inputs.spans, inputs.pictures, size)
    edges, as_given = (None, False) if inputs.control is None else control_picture(inputs.control, size)
    return Request(inputs.prompt, seeds, placed, edges), as_given


def _check_out(out: Path) -> None:
    if not out.exists():
        return
    foreign = [] if out.is_dir() else [out.name]
    if out.is_dir():
        foreign = sorted(path.name for path in out.iterdir() if not _OURS.fullmatch(path.name))
        if not foreign and any(out.iterdir()) and not (out / RECORD).is_file():
            foreign = [f"pictures without {RECORD}"]
    if foreign:
        raise DataError(f"{out}: is not a folder that generate made (it holds {foreign[0]}); give another --out")


def _record(inputs: _Inputs, request: Request, tools: Tools) -> dict[str, Any]:
    from eclipse.models.checkpoint import kind_of, prior_hash

    subjects = [
        {
            "noun": item.name,
            "word": inputs.prompt[span[0] : span[1]],
            "span": list(span),
            "masked": picture.mask is not None,
            **_named(item.file),
        }
        for item, span, picture in zip(inputs.subjects, inputs.spans, inputs.pictures, strict=True)
    ]
    return {
        "version": __version__,
        "prompt": request.prompt,
        "subjects": subjects,
        "seeds": list(request.seeds),
        "images": [_name(index) for index in range(len(request.seeds))],
        "prior": str(tools.folder),
        "prior_kind": kind_of(tools.prior),
        "prior_hash": prior_hash(tools.folder),
        "encoder": tools.clip.name,
        "encoder_hash": tools.clip.weights_hash,
        "device": tools.clip.device.type,
    }


def _sheet_inputs(inputs: _Inputs, request: Request) -> list[Labelled]:
    cells = [(item.name, placed.picture) for item, placed in zip(inputs.subjects, request.subjects, strict=True)]
    return cells if request.control is None else [*cells, ("edges", request.control)]


def _write(out: Path, images: NDArray[np.uint8], inputs: list[Labelled], record: dict[str, Any]) -> None:
    results = [(f"seed {seed}", image) for seed, image in zip(record["seeds"], images, strict=True)]
    with atomic_folder(out) as beside:
        for name, image in zip(record["images"], images, strict=True):
            (beside / name).write_bytes(encode_png(image))
        draw_sheet(record["prompt"], inputs, results).save(beside / "sheet.png", optimize=True)
        write_json(beside / RECORD, record)


def _named(file: Path) -> dict[str, str]:
    return {"file": str(file), "sha256": sha256(file)}


def _name(index: int) -> str:
    return f"{index + 1:04d}.png"
