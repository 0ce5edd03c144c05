"""From a diffusers pipeline's folder to the decoder that its ``model_index.json`` names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from eclipse.config.decoder import DecoderParams
from eclipse.errors import CheckpointError
from eclipse.files import read_json
from eclipse.models.decoder.base import Decoder
from eclipse.models.decoder.kandinsky import Kandinsky21Decoder, KandinskyV22Decoder
from eclipse.models.decoder.karlo import KarloDecoder
from eclipse.models.decoder.memory import place, weights_type
from eclipse.models.device import pick

INDEX = "model_index.json"

ADAPTERS: dict[str, Any] = {
    adapter.PIPELINE: adapter for adapter in (KandinskyV22Decoder, Kandinsky21Decoder, KarloDecoder)
}
"""Decoders by the class of their pipeline. Another kind of decoder is one class more in this table."""


def adapter_of(index: Path, name: str = "") -> type[Decoder]:
    """The class of the decoder whose ``model_index.json`` is ``index``; :class:`CheckpointError` names those known.

    ``name`` is what an error calls it, the folder where it is empty.
    """
    if not index.is_file():
        raise CheckpointError(f"{index.parent}: no {INDEX} here; point to a folder of {known()}")
    told = read_json(index)
    found = told.get("_class_name") if isinstance(told, dict) else None
    if found not in ADAPTERS:
        raise CheckpointError(f"{name or index.parent}: is a {found}, which draws no pictures here; use {known()}")
    adapter: type[Decoder] = ADAPTERS[found]
    return adapter


def load_decoder(
    folder: Path, params: DecoderParams | None = None, *, device: str | torch.device | None = None
) -> Decoder:
    """The decoder in ``folder``, on ``device`` (None: the one found), as ``params`` (None: by detection) say.

    :class:`CheckpointError` if the folder is missing, of no known class or damaged; :class:`ConfigError` where
    ``params`` ask for what the device cannot do.
    """
    settings = params or DecoderParams()
    where = pick() if device is None else torch.device(device)
    adapter = adapter_of(folder / INDEX)
    pipeline = _read(folder, adapter, weights_type(settings.precision, where))
    decoder: Decoder = ADAPTERS[adapter.PIPELINE](pipeline, device=where, tiled=settings.tiled)
    place(pipeline, settings, where)
    if settings.compile:
        decoder.compile()
    return decoder


def _read(folder: Path, adapter: type[Decoder], dtype: torch.dtype) -> Any:
    import diffusers
    from diffusers.utils.logging import disable_progress_bar

    disable_progress_bar()  # of loading a few files
    told = read_json(folder / INDEX)
    parts = [name for name, value in told.items() if isinstance(value, list)]
    later = [name for name in parts if name not in adapter.PARTS or name in adapter.CLASSES]
    how = {"local_files_only": True, "dtype": dtype, "use_safetensors": True, "variant": _variant(folder, adapter)}
    try:
        pipeline = getattr(diffusers, adapter.PIPELINE).from_pretrained(folder, **how, **dict.fromkeys(later))
        for name, kind in adapter.CLASSES.items():
            pipeline.register_modules(**{name: kind.from_pretrained(folder / name, **how).eval()})
        return pipeline
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{folder}: {adapter.PIPELINE} does not load it ({reason})") from error


def _variant(folder: Path, adapter: type[Decoder]) -> str | None:
    """``fp16`` where a part has its weights in that type only, as some are published."""
    for part in adapter.PARTS:
        weights = [path.name for path in (folder / part).glob("*.safetensors")]
        if weights and all(".fp16" in name for name in weights):
            return "fp16"
    return None


def known() -> str:
    """The classes of :data:`ADAPTERS`, for errors."""
    *others, last = ADAPTERS
    return f"{', '.join(others)} or {last}"
