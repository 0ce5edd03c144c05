"""Command ``interpolate``: pictures between 2 or 4 corners, and how evenly they change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eclipse import __version__
from eclipse.config.params import Params
from eclipse.errors import CheckpointError, ConfigError
from eclipse.files import atomic_file, sha256, tree_digest, write_json
from eclipse.personalize.corners import read_corners
from eclipse.personalize.grid_sheet import draw_grid

if TYPE_CHECKING:
    from eclipse.personalize.generate import Request, Tools
    from eclipse.personalize.interpolate import Mode
    from eclipse.personalize.ways import Way

SELECTED = Path("artifacts/selected")
SELECTED_FOR_SUBJECTS = Path("artifacts/subjects/selected")
MODES: tuple[Mode, ...] = ("linear", "slerp")


def run(
    params: Params,
    *,
    grid: Path,
    steps: int = 7,
    mode: str = "linear",
    seed: int = 0,
    segment: bool = False,
    prior: Path | None = None,
    frozen: Path = Path("artifacts/frozen"),
    decoder: Path | None = None,
    any_encoder: bool = False,
    out: Path = Path("grid.png"),
) -> dict[str, Any]:
    """Draw what lies between 2 or 4 prompts with subjects, ``steps`` pictures a side, and measure its smoothness.

    ``grid`` is a YAML list of corners (prompt, subjects, canny); ``mode`` is linear or slerp; ``seed`` is that of prior
    and decoder noise, the same everywhere. ``out`` is a PNG file, beside which the figures go to a JSON file of the
    same name. ``prior``, ``decoder``, ``segment`` and ``any_encoder`` are those of ``generate``.
    """
    chosen = _checked(steps, mode, seed, out)
    corners = read_corners(grid, limit=params.annotate.filters.subjects[1], segment=segment)
    personal = any(corner.subjects or corner.canny for corner in corners)
    prior = prior or (SELECTED_FOR_SUBJECTS if personal else SELECTED)
    from eclipse.models.decoder import decoder_digest, decoder_folder

    inside = decoder is None
    decoder = decoder or decoder_folder(frozen)
    for flag, folder in (("prior", prior), ("frozen", frozen), ("decoder", decoder)):
        if not folder.is_dir():
            raise CheckpointError(f"{folder}: no such folder; run `dvc repro`, or give --{flag}")
    from eclipse.models.checkpoint import prior_hash
    from eclipse.personalize.generate import load_clip, load_tools
    from eclipse.personalize.ways import figures

    clip = load_clip(frozen)
    clip.tokenize([corner.prompt for corner in corners])  # too long a prompt is told before larger models are read
    tools = load_tools(prior=prior, clip=clip, decoder=decoder, any_encoder=any_encoder, memory=params.decoder)
    ways = _ways(tools, [corner.request(clip.image_size, seed) for corner in corners], params, steps, chosen)
    record = {
        "version": __version__,
        "corners": [corner.record() for corner in corners],
        "mode": mode,
        "steps": steps,
        "seed": seed,
        "smoothness": {name: figures(tools, way) for name, way in ways.items()},
        "decode": params.evaluate.decode.model_dump(mode="json"),
        "prior_hash": prior_hash(prior),
        "encoder_hash": clip.weights_hash,
        "decoder_digest": decoder_digest(frozen) if inside else tree_digest(decoder),
    }
    return _write(out, ways["image"], [corner.caption for corner in corners], record)


def _checked(steps: int, mode: str, seed: int, out: Path) -> Mode:
    if steps < 2:
        raise ConfigError(f"--steps {steps}: give at least 2, the corners themselves")
    if seed < 0 or seed >= 2**63:
        raise ConfigError(f"--seed {seed}: give a seed from 0 on")
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out {out}: give a file name that ends in .png")
    for known in MODES:
        if mode == known:
            return known
    raise ConfigError(f"--mode {mode}: choose {' or '.join(MODES)}")


def _ways(tools: Tools, requests: Sequence[Request], params: Params, steps: int, mode: Mode) -> dict[str, Way]:
    from eclipse.personalize.ways import image_way, pixel_way, text_way

    image = image_way(tools, requests, params.evaluate, steps=steps, mode=mode)
    text = text_way(tools, requests, params.evaluate, steps=steps)
    return {"image": image, "pixels": pixel_way(image, steps=steps), "text": text}


def _write(out: Path, way: Way, captions: Sequence[str], record: dict[str, Any]) -> dict[str, Any]:
    """The figures last: where they are, the picture that they belong to is there, too."""
    assert way.cells is not None
    with atomic_file(out) as beside:
        draw_grid(way.cells, captions).save(beside, format="PNG", optimize=True)
    record["picture_sha256"] = sha256(out)
    write_json(out.with_suffix(".json"), record)
    return record
