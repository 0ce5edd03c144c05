"""Annotation models by name or folder, safetensors only; what cannot be read is one line that names the parameter."""

from __future__ import annotations

from typing import Any

import torch

from eclipse.errors import ConfigError
from eclipse.models.hub import token


def load(field: str, name: str, model: Any, processor: Any, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """``model`` (in eval mode, without gradients) and ``processor``, both ``from_pretrained`` of ``name``.

    ``field`` is the parameter that named it. Raises :class:`ConfigError` where the model or its processor is not
    there, or has no safetensors weights, or has weights for only a part of the model.
    """
    try:
        found, report = model.from_pretrained(
            name, use_safetensors=True, dtype=dtype, output_loading_info=True, token=token()
        )
        reader = processor.from_pretrained(name, token=token())
    except (OSError, ValueError) as error:
        reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
        raise ConfigError(
            f"annotate.models.{field}: {name} cannot be loaded ({reason}); name a model with safetensors weights or "
            f"its folder, and fetch it once while online"
        ) from None
    weights = {key for key, _ in found.named_parameters()}
    missing = sorted(weights.intersection(report["missing_keys"]))  # buffers may be newer than the checkpoint
    if missing:
        raise ConfigError(
            f"annotate.models.{field}: {name} has no weights for {missing[0]} and {len(missing) - 1} more of "
            f"{model.__name__}; name a model of this kind"
        )
    return found.eval().requires_grad_(False), reader
