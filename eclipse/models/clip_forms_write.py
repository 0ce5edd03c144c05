"""The frozen CLIP as transformers' two towers, tokeniser and image processor: a diffusers pipeline's folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from eclipse.errors import CheckpointError
from eclipse.files import read_json, write_json
from eclipse.models.clip_folder import CONFIG, WEIGHTS, check_config
from eclipse.models.clip_forms_config import canonical, of_open_clip, processor_config, unlike_transformers
from eclipse.models.clip_forms_map import VOCABULARY, pairs, to_transformers, tower_configs
from eclipse.models.clip_forms_words import write_tokenizer
from eclipse.models.weights import open_weights


def write_transformers(clip_folder: Path, out: Path) -> None:
    """Write ``text_encoder/``, ``image_encoder/``, ``tokenizer/`` and ``image_processor/`` into the folder ``out``.

    Weights keep their type. :class:`CheckpointError` for a CLIP that transformers has no form of (a ResNet, other
    blocks, another vocabulary), naming the setting.
    """
    path = clip_folder / CONFIG
    config = read_json(path)
    check_config(config, path)
    model_cfg = canonical(config["model_cfg"], str(path))
    if unlike := unlike_transformers(model_cfg):
        raise CheckpointError(f"{path}: transformers' CLIP has no {', '.join(unlike)}; such a CLIP has one form only")
    if model_cfg["text_cfg"]["vocab_size"] != VOCABULARY:
        raise CheckpointError(f"{path}: text_cfg.vocab_size is not {VOCABULARY}; no tokeniser for it is known")
    text, vision = tower_configs(model_cfg)
    weights, _ = open_weights(str(clip_folder), None, WEIGHTS, {WEIGHTS})
    mapping = pairs(model_cfg["text_cfg"]["layers"], model_cfg["vision_cfg"]["layers"])
    for folder, own, tower, kind in (
        ("text_encoder", ("text_model.", "text_projection."), text, "text"),
        ("image_encoder", ("vision_model.", "visual_projection."), vision, "vision"),
    ):
        chosen = [pair for pair in mapping if pair.theirs[0].startswith(own)]
        missing = [pair.ours for pair in chosen if pair.ours not in weights.shapes]
        if missing:
            raise CheckpointError(f"{clip_folder / WEIGHTS}: lacks {', '.join(missing[:4])}; import this CLIP again")
        _write_tower(out / folder, _named(tower, kind), to_transformers(chosen, weights.tensor))
    write_tokenizer(out / "tokenizer", model_cfg["text_cfg"]["context_length"])
    preprocess = of_open_clip(config.get("preprocess_cfg") or {})
    size = model_cfg["vision_cfg"]["image_size"]
    write_json(out / "image_processor/preprocessor_config.json", processor_config(preprocess, size))


def _named(tower: dict[str, Any], kind: str) -> dict[str, Any]:
    model = {"text": "CLIPTextModelWithProjection", "vision": "CLIPVisionModelWithProjection"}[kind]
    return {"architectures": [model], "model_type": f"clip_{kind}_model", **tower}


def _write_tower(folder: Path, config: dict[str, Any], state: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
