"""A published CLIP, in whatever form, made into the one form that is used here; and back into a pipeline's.

Sources are (a) open_clip's folder, (b) transformers' ``CLIPModel`` folder, and (c) a diffusers pipeline's folder with
``text_encoder/`` and ``image_encoder/``. The same weights come out as the same bytes from all three, and so with the
same ``FrozenClip.weights_hash``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from eclipse.errors import CheckpointError
from eclipse.files import atomic_folder, read_json, sha256, write_json
from eclipse.models import hub
from eclipse.models.clip_folder import CONFIG, WEIGHTS, build_clip, check_config
from eclipse.models.clip_forms_config import canonical, of_open_clip, of_processor
from eclipse.models.clip_forms_map import layers, model_config, pairs, to_open_clip
from eclipse.models.clip_forms_words import check_vocabulary
from eclipse.models.weights import Weights, open_weights

SOURCE = "source.json"
"""Where a CLIP came from; no part of its hash."""
_POSITIONS = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")
"""Counting numbers that older files hold."""


@dataclass(frozen=True)
class _Found:
    """A CLIP in open_clip's form, its weights not read yet, and the files it was found in."""

    model_cfg: dict[str, Any]
    preprocess_cfg: dict[str, Any]
    read: Callable[[], dict[str, Tensor]]
    holds_scale: bool
    files: dict[str, Path]


def import_clip(repo: str, revision: str | None, out: Path, *, logit_scale: float | None) -> dict[str, Any]:
    """Write the CLIP of ``repo`` at ``revision`` to ``out`` as :meth:`FrozenClip.load` reads it; where it came from.

    ``logit_scale`` (1/τ, 100 for most) is needed for a pipeline's two towers, which do not hold it, and has to agree
    with the files that do. Weights keep their type. Needs as much memory as the weights take. Raises
    :class:`CheckpointError` for anything that is no such CLIP; ``out`` then stays as it was.
    """
    if logit_scale is not None and not 0 < logit_scale < math.inf:
        raise CheckpointError(
            f"logit_scale {logit_scale} (--logit-scale): has to be above 0 and finite; it is 100 for OpenAI's and "
            "laion's CLIPs"
        )
    form, found = _find(repo, revision)
    name = f"{repo}@{revision}" if revision else str(repo)
    state = found.read()
    _set_scale(state, found.holds_scale, logit_scale, name)
    _check(found.model_cfg, state, name)
    record = {
        "source": repo,
        "revision": revision,
        "form": form,
        "files": {file: sha256(path) for file, path in sorted(found.files.items())},
        "logit_scale": math.exp(float(state["logit_scale"])),
    }
    # What priors and pictures tell of it, also where they are published: a folder's place is nobody's business there.
    shown = name if revision else Path(repo).resolve().name
    config = {"name": shown, "model_cfg": found.model_cfg, "preprocess_cfg": found.preprocess_cfg}
    with atomic_folder(out) as beside:
        save_file(dict(sorted(state.items())), beside / WEIGHTS)
        write_json(beside / CONFIG, config)
        write_json(beside / SOURCE, record)
    return record


def _find(repo: str, revision: str | None) -> tuple[str, _Found]:
    """The first form of which ``repo`` has safetensors; the others' names are in the error where it has none."""
    names = set(hub.listing(repo, revision))
    forms: dict[str, tuple[str, Callable[[str, str | None, set[str]], _Found]]] = {
        "open_clip": (CONFIG, _open_clip),
        "transformers": ("config.json", _transformers),
        "pipeline": ("text_encoder/config.json", _pipeline),
    }
    present = [form for form, (config, _) in forms.items() if config in names]
    for form in present:
        folder = "text_encoder/" if form == "pipeline" else ""
        stem = WEIGHTS if form == "open_clip" else f"{folder}model.safetensors"
        if stem in names or f"{stem}.index.json" in names:
            return form, forms[form][1](repo, revision, names)
    where = f"{repo}@{revision}" if revision else repo
    if not present:
        raise CheckpointError(
            f"{where}: has none of {', '.join(config for config, _ in forms.values())}; name a repository or a folder "
            "of a CLIP, or fetch it first: " + _download(repo, revision)
        )
    raise CheckpointError(
        f"{where}: its weights are not there as safetensors, only {_others(names) or 'its config'}; pickled weights "
        "are never read, since they can run code: take a repository or revision that has safetensors, or convert them "
        "on a machine that you can lose; where they were not fetched: " + _download(repo, revision)
    )


def _open_clip(repo: str, revision: str | None, names: set[str]) -> _Found:
    config_file = hub.fetch(repo, revision, CONFIG)
    config = read_json(config_file)
    check_config(config, config_file)
    weights, files = open_weights(repo, revision, WEIGHTS, names)
    return _Found(
        canonical(config["model_cfg"], str(config_file)),
        of_open_clip(config.get("preprocess_cfg") or {}),
        lambda: {name: weights.tensor(name) for name in weights.shapes},
        "logit_scale" in weights.shapes,
        {CONFIG: config_file, **files},
    )


def _transformers(repo: str, revision: str | None, names: set[str]) -> _Found:
    config_file = hub.fetch(repo, revision, "config.json")
    config = read_json(config_file)
    if not isinstance(config, dict) or config.get("model_type") != "clip":
        raise CheckpointError(f"{config_file}: is no CLIPModel's config; give the folder of a CLIP with both towers")
    weights, files = open_weights(repo, revision, "model.safetensors", names)
    towers = [{**config.get(f"{x}_config", {}), **(config.get(f"{x}_config_dict") or {})} for x in ("text", "vision")]
    files |= {"config.json": config_file, **_words(repo, revision, names, "")}
    return _from_towers(repo, revision, towers, weights, files, "preprocessor_config.json")


def _pipeline(repo: str, revision: str | None, names: set[str]) -> _Found:
    files: dict[str, Path] = {}
    towers, shapes_of = [], []
    for folder in ("text_encoder", "image_encoder"):
        if f"{folder}/config.json" not in names:
            raise CheckpointError(f"{repo}: has no {folder}/; a CLIP needs both towers: take another form of it")
        config_file = hub.fetch(repo, revision, f"{folder}/config.json")
        towers.append(read_json(config_file))
        weights, found = open_weights(repo, revision, f"{folder}/model.safetensors", names)
        shapes_of.append(weights)
        files |= {f"{folder}/config.json": config_file, **found}
    files |= _words(repo, revision, names, "tokenizer/")
    weights = Weights({**shapes_of[0].files, **shapes_of[1].files}, {**shapes_of[0].shapes, **shapes_of[1].shapes})
    processor = "image_processor" if "image_processor/preprocessor_config.json" in names else "feature_extractor"
    return _from_towers(repo, revision, towers, weights, files, f"{processor}/preprocessor_config.json")


def _from_towers(
    repo: str, revision: str | None, towers: list[Any], weights: Weights, files: dict[str, Path], processor: str
) -> _Found:
    where = f"{repo}@{revision}" if revision else repo
    model_cfg = model_config(towers[0], towers[1], weights.shapes, where)
    mapping = pairs(layers(weights.shapes, "text_model."), layers(weights.shapes, "vision_model."))
    holds_scale = "logit_scale" in weights.shapes
    mapping = [pair for pair in mapping if holds_scale or pair.ours != "logit_scale"]
    _check_names({name for pair in mapping for name in pair.theirs}, set(weights.shapes) - set(_POSITIONS), where)
    files[processor] = hub.fetch(repo, revision, processor)
    size = model_cfg["vision_cfg"]["image_size"]
    preprocess = of_processor(read_json(files[processor]), size, str(files[processor]))
    return _Found(model_cfg, preprocess, lambda: to_open_clip(mapping, weights.tensor), holds_scale, files)


def _words(repo: str, revision: str | None, names: set[str], folder: str) -> dict[str, Path]:
    """The file that holds the vocabulary, checked; empty where the source ships none."""
    for name in (f"{folder}vocab.json", f"{folder}tokenizer.json"):
        if name in names:
            path = hub.fetch(repo, revision, name)
            check_vocabulary(path, name)
            return {name: path}
    return {}


def _set_scale(state: dict[str, Tensor], holds: bool, given: float | None, where: str) -> None:
    if not holds:
        if given is None:
            raise CheckpointError(
                f"{where}: its towers do not hold logit_scale, and a config's initial value is not the trained one; "
                "give it (--logit-scale; 100 for OpenAI's and laion's CLIPs) or take a form of this CLIP that holds it"
            )
        state["logit_scale"] = torch.tensor(math.log(given), dtype=torch.float32)
        return
    held = math.exp(float(state["logit_scale"]))
    if given is not None and not math.isclose(held, given, rel_tol=1e-3):
        raise CheckpointError(f"{where}: holds the logit_scale {held:.6g}, not {given:g}; leave it out")


def _check(model_cfg: dict[str, Any], state: dict[str, Tensor], where: str) -> None:
    """That open_clip builds such a CLIP and that the weights fit it, without its memory."""
    with torch.device("meta"):
        wanted = {name: value.shape for name, value in build_clip(model_cfg, Path(where)).state_dict().items()}
    _check_names(set(wanted), set(state), where)
    for name, shape in wanted.items():
        if state[name].shape != shape:
            raise CheckpointError(f"{where}: {name} has the shape {tuple(state[name].shape)}, not {tuple(shape)}")
        if not torch.isfinite(state[name]).all():
            raise CheckpointError(f"{where}: {name} is not finite; fetch it again")


def _check_names(wanted: set[str], found: set[str], where: str) -> None:
    for title, names in (("lack", wanted - found), ("have, beyond a CLIP's,", found - wanted)):
        if names:
            listed = ", ".join(sorted(names)[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            raise CheckpointError(f"{where}: the weights {title} {listed}; not a whole CLIP of this kind")


def _others(names: set[str]) -> str:
    return ", ".join(sorted(name for name in names if name.endswith((".bin", ".pt", ".pth", ".msgpack", ".h5"))))


def _download(repo: str, revision: str | None) -> str:
    return f"`hf download {repo} --revision {revision}`" if revision else f"put its safetensors into {repo}"
