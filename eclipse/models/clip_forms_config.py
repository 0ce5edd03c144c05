"""Settings of a CLIP in one spelling, so that the same CLIP has the same hash whatever form it came in."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import open_clip
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

from eclipse.errors import CheckpointError
from eclipse.models.clip_forms_map import mlp_ratio

_TEXT = ("context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio")
_VISION = ("image_size", "patch_size", "width", "head_width", "layers", "mlp_ratio")
_RESAMPLE = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers in image processors' configs, and open_clip's names."""


def canonical(model_cfg: Mapping[str, Any], where: str) -> dict[str, Any]:
    """``model_cfg`` with its defaults written out and nothing else that says what is so anyway.

    A ResNet's stays as it is: there is no other form of it.
    """
    if is_resnet(model_cfg):
        return dict(model_cfg)
    defaults = inspect.signature(CLIP.__init__).parameters
    # The weights hold the temperature; where a training began with it changes nothing.
    known = {key: value for key, value in model_cfg.items() if key != "init_logit_scale"}
    rest = {
        key: value
        for key, value in known.items()
        if key not in ("embed_dim", "quick_gelu", "text_cfg", "vision_cfg")
        and not (key in defaults and defaults[key].default == value)
    }
    try:
        return {
            "embed_dim": int(known["embed_dim"]),
            "quick_gelu": bool(known.get("quick_gelu", False)),
            "text_cfg": _section(known["text_cfg"], CLIPTextCfg, _TEXT),
            "vision_cfg": _section(known["vision_cfg"], CLIPVisionCfg, _VISION),
            **rest,
        }
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: model_cfg does not describe a CLIP ({error!r})") from None


def is_resnet(model_cfg: Mapping[str, Any]) -> bool:
    """Whether the vision tower is a ResNet, which only open_clip has."""
    return isinstance(model_cfg.get("vision_cfg", {}).get("layers"), (list, tuple))


def widths(model_cfg: Mapping[str, Any]) -> tuple[int, int]:
    """Width of the embeddings and of the text states."""
    return int(model_cfg["embed_dim"]), int(model_cfg["text_cfg"].get("width", CLIPTextCfg.width))


def unlike_transformers(model_cfg: Mapping[str, Any]) -> list[str]:
    """What a :func:`canonical` ``model_cfg`` has that transformers' CLIP has not; empty where there is such a form."""
    if is_resnet(model_cfg):
        return ["vision_cfg.layers (a ResNet)"]
    top = [key for key in model_cfg if key not in ("embed_dim", "quick_gelu", "text_cfg", "vision_cfg")]
    text = [f"text_cfg.{key}" for key in model_cfg["text_cfg"] if key not in _TEXT]
    return top + text + [f"vision_cfg.{key}" for key in model_cfg["vision_cfg"] if key not in _VISION]


def of_open_clip(preprocess: Mapping[str, Any]) -> dict[str, Any]:
    """``preprocess_cfg`` with its defaults written out and nothing that the model's own size says."""
    return {
        "mean": [float(value) for value in preprocess.get("mean", open_clip.OPENAI_DATASET_MEAN)],
        "std": [float(value) for value in preprocess.get("std", open_clip.OPENAI_DATASET_STD)],
        "interpolation": preprocess.get("interpolation", "bicubic"),
        "resize_mode": preprocess.get("resize_mode", "shortest"),
    }


def of_processor(config: Mapping[str, Any], image_size: int, where: str) -> dict[str, Any]:
    """``preprocess_cfg`` of a ``preprocessor_config.json``; what open_clip has not is a CheckpointError."""
    for step in ("do_resize", "do_rescale", "do_normalize"):
        if not config.get(step, True):
            raise CheckpointError(f"{where}: {step} is off; a CLIP's pictures are resized, rescaled and normalised")
    if abs(config.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        raise CheckpointError(f"{where}: rescale_factor is {config['rescale_factor']}; it has to be 1/255")
    resample = config.get("resample", 3)
    if resample not in _RESAMPLE:
        raise CheckpointError(f"{where}: resample is {resample}; 3 (bicubic) and 2 (bilinear) are supported")
    squash = _check_size(config, image_size, where)
    return of_open_clip(
        {
            "mean": config.get("image_mean", open_clip.OPENAI_DATASET_MEAN),
            "std": config.get("image_std", open_clip.OPENAI_DATASET_STD),
            "interpolation": _RESAMPLE[resample],
            "resize_mode": "squash" if squash else "shortest",
        }
    )


def processor_config(preprocess: Mapping[str, Any], image_size: int) -> dict[str, Any]:
    """The ``preprocessor_config.json`` that :func:`of_processor` reads as this ``preprocess_cfg``."""
    both = {"height": image_size, "width": image_size}
    squash = preprocess["resize_mode"] == "squash"
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": both if squash else {"shortest_edge": image_size},
        "resample": {name: number for number, name in _RESAMPLE.items()}[preprocess["interpolation"]],
        "do_center_crop": not squash,
        "crop_size": both,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": preprocess["mean"],
        "image_std": preprocess["std"],
    }


def _check_size(config: Mapping[str, Any], image_size: int, where: str) -> bool:
    """Whether pictures are squashed; CheckpointError where what comes out is not square and ``image_size`` wide."""
    given = {"size": config.get("size", image_size), "crop_size": config.get("crop_size", image_size)}
    size = given["size"] if isinstance(given["size"], Mapping) else {"shortest_edge": given["size"]}
    squash = "shortest_edge" not in size
    crops = bool(config.get("do_center_crop", True))
    fits = crops != squash and set(size) in ({"shortest_edge"}, {"height", "width"})
    for name in ("size", "crop_size") if crops else ("size",):
        values = list(given[name].values()) if isinstance(given[name], Mapping) else [given[name]]
        if not fits or not values or any(value != image_size for value in values):
            raise CheckpointError(
                f"{where}: {name} {given[name]} with this crop does not give the model's {image_size} pixels"
            )
    return squash


def _section(given: Mapping[str, Any], kind: type, always: tuple[str, ...]) -> dict[str, Any]:
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    section = {key: given.get(key, defaults[key]) for key in always}
    section["mlp_ratio"] = mlp_ratio(section["width"], int(section["width"] * section["mlp_ratio"]))
    others = {key: value for key, value in given.items() if key not in always}
    return section | {key: value for key, value in others.items() if key not in defaults or defaults[key] != value}
