"""From concepts to a decoder folder: the source's own files with another UNet, and finetune.json saying where from."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from eclipse import __version__
from eclipse.config.decoder import DecoderParams
from eclipse.config.subjects import FinetuneParams
from eclipse.errors import CheckpointError, ConfigError, TrainingError
from eclipse.files import atomic_folder, tree_digest, write_json
from eclipse.models.clip import FrozenClip
from eclipse.models.decoder import Decoder, KandinskyV22Decoder, load_decoder
from eclipse.models.decoder.load import INDEX, adapter_of
from eclipse.models.device import pick
from eclipse.personalize.finetune import Finetuner, Plan
from eclipse.personalize.finetune_data import Concept, make_material
from eclipse.train.state import TrainingState

log = logging.getLogger(__name__)

RECORD = "finetune.json"
_WEIGHTS = "diffusion_pytorch_model"
_NO_EFFECT = {"checkpoint_every", "study"}
_TYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


@dataclass(frozen=True)
class Source:
    """The frozen models to start from: a loaded CLIP, and the folder of the decoder."""

    clip: FrozenClip
    decoder: Path


def finetune_decoder(
    concepts: Sequence[Concept],
    source: Source,
    settings: FinetuneParams,
    *,
    steps: int,
    seed: int,
    out: Path,
    checkpoints: Path,
) -> dict[str, Any]:
    """Finetune the decoder on ``concepts`` together and write it to ``out``; returns what finetune.json holds.

    Where ``out`` already holds just this result, it is left as it is. A killed or stopped run goes on from
    ``checkpoints``; its state is removed once ``out`` is there.
    """
    check_out(out, source.decoder)
    lineage = _lineage(concepts, source, settings, steps, seed)
    if _recorded(out) == lineage["digest"]:
        log.info("%s: already there", out)
        return dict(json.loads((out / RECORD).read_text(encoding="utf-8")))
    decoder = _trainable(source.decoder)
    material = make_material(concepts, source.clip, decoder)
    folder = checkpoints / f"finetune-{lineage['digest'][:16]}"
    plan = Plan(settings, steps, seed, lineage["digest"], folder / "state.pt")
    unet = decoder.pipeline.unet
    state = Finetuner(unet, decoder.pipeline.scheduler, material, plan).run()
    record = {**lineage, "device": str(unet.device), "seconds": round(state.seconds, 2), "loss": loss_summary(state)}
    save_finetuned(source.decoder, unet, out, record)
    shutil.rmtree(folder, ignore_errors=True)
    return record


def _trainable(folder: Path) -> Decoder:
    """The decoder in ``folder`` with float32 weights; :class:`CheckpointError` for one that reads text."""
    adapter = adapter_of(folder / INDEX)
    if not issubclass(adapter, KandinskyV22Decoder):
        raise CheckpointError(
            f"{folder}: is a {adapter.PIPELINE}, whose UNet also reads a prompt, and pictures of concepts come without "
            f"one; finetune a {KandinskyV22Decoder.PIPELINE}"
        )
    return load_decoder(folder, DecoderParams(precision="fp32", offload="none"), device=pick())


def check_out(out: Path, source: Path) -> None:
    """:class:`ConfigError` where writing ``out`` would replace the source decoder or a folder of something else."""
    if out.resolve() == source.resolve():
        raise ConfigError(f"--out {out}: is the decoder that is finetuned; choose another folder")
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / RECORD).is_file()):
        raise ConfigError(f"--out {out}: exists and is no finetuned decoder; choose another folder")


def save_finetuned(source: Path, unet: Any, out: Path, record: dict[str, Any]) -> None:
    """Write ``out``: all files of ``source`` as they are, but the UNet's weights (in the type they have there).

    A card (README.md) gets a line before its figures, which are the source's. :class:`TrainingError` where a weight
    is too large for that type.
    """
    dtype = weights_type(source / "unet")
    state = {name: value.detach().to("cpu", dtype).contiguous() for name, value in unet.state_dict().items()}
    for name, value in state.items():
        if not bool(torch.isfinite(value).all()):
            raise TrainingError(f"{out}: unet {name} is not finite in {dtype}; lower finetune.lr")
    with atomic_folder(out) as beside:
        shutil.copytree(source, beside, dirs_exist_ok=True, ignore=_unet_weights(source / "unet"))
        save_file(state, beside / "unet" / f"{_WEIGHTS}.safetensors", metadata={"format": "pt"})
        _mark_card(beside / "README.md", record)
        write_json(beside / RECORD, record)


def weights_type(unet: Path) -> torch.dtype:
    """The float type of the safetensors weights in the folder ``unet``."""
    paths = sorted(unet.glob(f"{_WEIGHTS}*.safetensors"))
    if not paths:
        raise CheckpointError(f"{unet}: no {_WEIGHTS}.safetensors here; save the decoder as safetensors")
    with safe_open(paths[0], "pt") as file:
        return _TYPES[file.get_slice(next(iter(file.keys()))).get_dtype()]


def _unet_weights(unet: Path) -> Any:
    def left_out(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if name != "config.json"] if Path(folder) == unet else []

    return left_out


def _mark_card(card: Path, record: dict[str, Any]) -> None:
    if not card.is_file():
        return
    names = ", ".join(record["concepts"])
    note = f"> UNet finetuned on {names} ({record['steps']} steps, see {RECORD}). All below is of the decoder before."
    card.write_text(f"{note}\n\n{card.read_text(encoding='utf-8')}", encoding="utf-8")


def loss_summary(state: TrainingState) -> dict[str, Any]:
    """Means of the loss over (up to) ten equal parts of the run; one step's loss is mostly its random time."""
    losses = np.array([row["loss"] for row in state.rows])
    parts = np.array_split(losses, min(10, len(losses)))
    return {"steps": len(losses), "mean_of_parts": [round(float(part.mean()), 6) for part in parts]}


def _lineage(
    concepts: Sequence[Concept], source: Source, settings: FinetuneParams, steps: int, seed: int
) -> dict[str, Any]:
    """All that the weights depend on; ``digest`` is over it."""
    if not (source.decoder / "model_index.json").is_file():
        raise CheckpointError(f"{source.decoder}: no model_index.json here; point to a KandinskyV22Pipeline folder")
    lineage: dict[str, Any] = {
        "version": __version__,
        "decoder_digest": tree_digest(source.decoder),
        "encoder_hash": source.clip.weights_hash,
        "concepts": {concept.name: concept.sources for concept in concepts},
        "params": settings.model_dump(mode="json", exclude=_NO_EFFECT),
        "steps": steps,
        "seed": seed,
    }
    return {**lineage, "digest": hashlib.sha256(json.dumps(lineage).encode()).hexdigest()}


def _recorded(out: Path) -> str | None:
    path = out / RECORD
    return json.loads(path.read_text(encoding="utf-8")).get("digest") if path.is_file() else None
