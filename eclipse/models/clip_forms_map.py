"""Two forms of one CLIP: open_clip's names of weights and settings, and transformers'.

open_clip keeps query, key and value of an attention in one matrix and both projections transposed; it has one switch
for both towers' activation and a width of the vision heads where transformers has their number. All else is names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eclipse.errors import CheckpointError

VOCABULARY, START, END = 49408, 49406, 49407
"""Size of CLIP's byte-pair vocabulary, and its two markers."""
_ACTIVATIONS = {"gelu": False, "quick_gelu": True}
_LAYER_NORM_EPS = 1e-5
_EARLY_END = 2
"""What configs before transformers 4.31 name as the end; it stands for "the largest id", which is the end."""
_HEADS = {"text": 8, "vision": 12}
"""What transformers takes where a config names none."""
_ATTENTION = ("q_proj", "k_proj", "v_proj")

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Pair:
    """One weight of open_clip's and the one or three of transformers' that hold the same numbers."""

    ours: str
    theirs: tuple[str, ...]
    transposed: bool = False


def pairs(text_layers: int, vision_layers: int) -> list[Pair]:
    """Every weight of a CLIP with a vision transformer, in both forms."""
    text, vision = "text_model", "vision_model"
    found = [
        Pair("logit_scale", ("logit_scale",)),
        Pair("positional_embedding", (f"{text}.embeddings.position_embedding.weight",)),
        Pair("token_embedding.weight", (f"{text}.embeddings.token_embedding.weight",)),
        Pair("text_projection", ("text_projection.weight",), transposed=True),
        Pair("visual.class_embedding", (f"{vision}.embeddings.class_embedding",)),
        Pair("visual.positional_embedding", (f"{vision}.embeddings.position_embedding.weight",)),
        Pair("visual.conv1.weight", (f"{vision}.embeddings.patch_embedding.weight",)),
        Pair("visual.proj", ("visual_projection.weight",), transposed=True),
        *_both("ln_final", f"{text}.final_layer_norm"),
        *_both("visual.ln_pre", f"{vision}.pre_layrnorm"),
        *_both("visual.ln_post", f"{vision}.post_layernorm"),
    ]
    for ours, theirs, layers in (("transformer", text, text_layers), ("visual.transformer", vision, vision_layers)):
        for number in range(layers):
            found += _layer(f"{ours}.resblocks.{number}", f"{theirs}.encoder.layers.{number}")
    return found


def to_open_clip(pairs: Iterable[Pair], read: Callable[[str], Tensor]) -> dict[str, Tensor]:
    """open_clip's weights from transformers', which ``read`` gives by name; types stay."""
    state = {}
    for pair in pairs:
        parts = [read(name) for name in pair.theirs]
        value = parts[0] if len(parts) == 1 else torch.cat(parts)
        state[pair.ours] = (value.T if pair.transposed else value).contiguous()
    return state


def to_transformers(pairs: Iterable[Pair], read: Callable[[str], Tensor]) -> dict[str, Tensor]:
    """transformers' weights from open_clip's, which ``read`` gives by name; types stay."""
    state: dict[str, Tensor] = {}
    for pair in pairs:
        value = read(pair.ours)
        parts = value.chunk(len(pair.theirs)) if len(pair.theirs) > 1 else (value.T if pair.transposed else value,)
        # A part of a fused matrix shares its memory, which safetensors refuses to write.
        state |= {name: part.clone().contiguous() for name, part in zip(pair.theirs, parts, strict=True)}
    return state


def model_config(text: Mapping[str, Any], vision: Mapping[str, Any], shapes: Shapes, where: str) -> dict[str, Any]:
    """open_clip's ``model_cfg`` of the towers with these configs of transformers'.

    Sizes are read from the weights' ``shapes`` (transformers' names), since published configs get some of them wrong
    (laion's bigG: text ``projection_dim`` 512); only what no shape tells comes from the configs. A setting that
    open_clip does not have is a :class:`CheckpointError` naming ``where``.
    """
    for name, config in (("text", text), ("vision", vision)):
        _check_tower(config, f"{where}: {name}")
    if _activation(text) != _activation(vision):
        raise CheckpointError(f"{where}: hidden_act of the towers differs; open_clip has one for both")
    tokens = _shape(shapes, "text_model.embeddings.token_embedding.weight", where)
    positions = _shape(shapes, "text_model.embeddings.position_embedding.weight", where)
    patches = _shape(shapes, "vision_model.embeddings.position_embedding.weight", where)
    patch = _shape(shapes, "vision_model.embeddings.patch_embedding.weight", where)
    return {
        "embed_dim": _shape(shapes, "text_projection.weight", where)[0],
        "quick_gelu": _activation(text),
        "text_cfg": {
            "context_length": positions[0],
            "vocab_size": tokens[0],
            "width": tokens[1],
            "heads": int(text.get("num_attention_heads", _HEADS["text"])),
            "layers": layers(shapes, "text_model."),
            "mlp_ratio": _ratio(shapes, "text_model.encoder.layers.0.mlp.fc1.weight", where),
        },
        "vision_cfg": {
            "image_size": math.isqrt(patches[0] - 1) * patch[2],
            "patch_size": patch[2],
            "width": patches[1],
            "head_width": patches[1] // int(vision.get("num_attention_heads", _HEADS["vision"])),
            "layers": layers(shapes, "vision_model."),
            "mlp_ratio": _ratio(shapes, "vision_model.encoder.layers.0.mlp.fc1.weight", where),
        },
    }


def tower_configs(model_cfg: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """transformers' configs of text and vision tower for a ``model_cfg`` of ``clip_forms_config.canonical``."""
    text, vision = model_cfg["text_cfg"], model_cfg["vision_cfg"]
    common = {
        "hidden_act": "quick_gelu" if model_cfg["quick_gelu"] else "gelu",
        "layer_norm_eps": _LAYER_NORM_EPS,
        "projection_dim": model_cfg["embed_dim"],
        "attention_dropout": 0.0,
    }
    text_config = {
        **common,
        "hidden_size": text["width"],
        "intermediate_size": int(text["width"] * text["mlp_ratio"]),
        "num_attention_heads": text["heads"],
        "num_hidden_layers": text["layers"],
        "max_position_embeddings": text["context_length"],
        "vocab_size": text["vocab_size"],
        "bos_token_id": START,
        "eos_token_id": END,
        "pad_token_id": END,
    }
    vision_config = {
        **common,
        "hidden_size": vision["width"],
        "intermediate_size": int(vision["width"] * vision["mlp_ratio"]),
        "num_attention_heads": vision["width"] // vision["head_width"],
        "num_hidden_layers": vision["layers"],
        "image_size": vision["image_size"],
        "patch_size": vision["patch_size"],
        "num_channels": 3,
    }
    return text_config, vision_config


def layers(shapes: Shapes, tower: str) -> int:
    """How many blocks the weights of ``tower`` (``text_model.`` or ``vision_model.``) are of."""
    start = f"{tower}encoder.layers."
    return len({name[len(start) :].partition(".")[0] for name in shapes if name.startswith(start)})


def mlp_ratio(width: int, hidden: int) -> float:
    """The shortest number from which open_clip computes this hidden width; 4 digits at least, as its own configs."""
    if hidden % width == 0:
        return float(hidden // width)
    for digits in range(4, 16):
        ratio = round(hidden / width, digits)
        if int(width * ratio) == hidden:
            return ratio
    return (hidden + 0.5) / width


def _both(ours: str, theirs: str) -> list[Pair]:
    return [Pair(f"{ours}.{kind}", (f"{theirs}.{kind}",)) for kind in ("weight", "bias")]


def _layer(ours: str, theirs: str) -> list[Pair]:
    fused = [
        Pair(f"{ours}.attn.in_proj_{kind}", tuple(f"{theirs}.self_attn.{name}.{kind}" for name in _ATTENTION))
        for kind in ("weight", "bias")
    ]
    names = (
        ("ln_1", "layer_norm1"),
        ("attn.out_proj", "self_attn.out_proj"),
        ("ln_2", "layer_norm2"),
        ("mlp.c_fc", "mlp.fc1"),
        ("mlp.c_proj", "mlp.fc2"),
    )
    return [*fused, *(pair for a, b in names for pair in _both(f"{ours}.{a}", f"{theirs}.{b}"))]


def _check_tower(config: Mapping[str, Any], where: str) -> None:
    if config.get("hidden_act", "quick_gelu") not in _ACTIVATIONS:
        raise CheckpointError(f"{where}: hidden_act {config['hidden_act']!r}; a CLIP has {' or '.join(_ACTIVATIONS)}")
    if config.get("layer_norm_eps", _LAYER_NORM_EPS) != _LAYER_NORM_EPS:
        raise CheckpointError(f"{where}: layer_norm_eps {config['layer_norm_eps']}; open_clip has {_LAYER_NORM_EPS}")
    if config.get("eos_token_id", END) not in (END, _EARLY_END):
        raise CheckpointError(f"{where}: eos_token_id {config['eos_token_id']}; CLIP's captions end with {END}")


def _activation(config: Mapping[str, Any]) -> bool:
    return _ACTIVATIONS[config.get("hidden_act", "quick_gelu")]


def _shape(shapes: Shapes, name: str, where: str) -> tuple[int, ...]:
    if name not in shapes:
        raise CheckpointError(f"{where}: {name} is missing; not the weights of a CLIP with a projection")
    return shapes[name]


def _ratio(shapes: Shapes, name: str, where: str) -> float:
    hidden, width = _shape(shapes, name, where)
    return mlp_ratio(width, hidden)
