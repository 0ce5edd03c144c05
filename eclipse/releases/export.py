"""Priors for others: in their authors' layout, and as a pipeline of diffusers, each with its model card.

Both folders are ready to upload. The weights are those of the prior, bit for bit.
"""

from __future__ import annotations

import inspect
import json
import re
import shutil
from pathlib import Path
from typing import Any

from diffusers import __version__ as diffusers_version
from safetensors.torch import save_file

from eclipse.errors import CheckpointError
from eclipse.files import atomic_folder, read_json, write_json
from eclipse.lineage import flatten
from eclipse.models.checkpoint import CONFIG, DESCRIBED, META, WEIGHTS, kind_of, load_prior, prior_hash
from eclipse.models.clip import FrozenClip
from eclipse.models.clip_folder import CONFIG as CLIP_CONFIG
from eclipse.models.clip_folder import WEIGHTS as CLIP_WEIGHTS
from eclipse.models.clip_folder import check_config, weights_hash_of
from eclipse.models.clip_forms_config import canonical, widths
from eclipse.models.clip_forms_write import write_transformers
from eclipse.models.prior import EclipsePrior
from eclipse.releases.imported import check_widths

CARD, INDEX, LINEAGE = "README.md", "model_index.json", "training.json"

_AT_COMMIT = re.compile(r"[^/]+/[^/]+@[0-9a-f]{40}")
_SIZES = (
    "embedding_dim",
    "num_layers",
    "num_attention_heads",
    "attention_head_dim",
    "num_embeddings",
    "additional_embeddings",
)
_UPSTREAM = {
    "dropout": 0.0,
    "norm_in_type": None,
    "embedding_proj_norm_type": None,
    "encoder_hid_proj_type": "linear",
    "added_emb_type": "prd",
    "embedding_proj_dim": None,
    "clip_embed_dim": None,
}
"""The other arguments of the authors' class, with the only values that it was published with."""

_TRANSFORMERS = {
    "text_encoder": "CLIPTextModelWithProjection",
    "image_encoder": "CLIPVisionModelWithProjection",
    "tokenizer": "CLIPTokenizer",
    "image_processor": "CLIPImageProcessor",
}


def to_upstream(folder: Path, out: Path) -> None:
    """Write the prior in ``folder`` as its authors publish theirs; their inference code loads it.

    Their class has one width for embeddings and text states: :class:`CheckpointError` for a prior with two, and for a
    diffusion prior.
    """
    prior = _one_pass(folder)
    width, state_width = prior.config.embedding_dim, prior.encoder_hidden_states_proj.in_features
    if width != state_width:
        raise CheckpointError(
            f"{folder}: embeddings are {width} and text states {state_width} wide, but the authors' class has one "
            "width for both; export it as a pipeline (--to diffusers)"
        )
    config = {"_class_name": "PriorTransformer", "_diffusers_version": diffusers_version, **_UPSTREAM}
    with atomic_folder(out) as beside:
        write_json(beside / CONFIG, config | {key: prior.config[key] for key in _SIZES})
        _save(prior.state_dict(), beside / WEIGHTS, folder)
        (beside / CARD).write_text(_card(folder, "upstream", kind_of(prior)), encoding="utf-8")


def to_diffusers(folder: Path, frozen: Path, out: Path) -> None:
    """Write the prior in ``folder`` and the CLIP of ``frozen`` as a ``KandinskyV22PriorPipeline``'s folder.

    Prior and scheduler bring their code (:mod:`eclipse.models.one_pass`), so loading asks for
    ``trust_remote_code=True``. :class:`CheckpointError` for another CLIP than the prior's, one that transformers has no
    form of, and a diffusion prior.
    """
    from eclipse.models import one_pass

    prior, clip = _one_pass(folder), frozen / "clip"
    _check_clip(prior, folder, clip)
    state = dict(prior.state_dict())
    if prior.embedding_control is not None:
        state["no_control"] = FrozenClip.load(clip, device="cpu").encode_nothing()
    source = Path(inspect.getfile(one_pass))
    index: dict[str, Any] = {"_class_name": "KandinskyV22PriorPipeline", "_diffusers_version": diffusers_version}
    index |= {name: ["transformers", kind] for name, kind in _TRANSFORMERS.items()}
    index |= {"prior": [source.stem, "OnePassPrior"], "scheduler": [source.stem, "OnePassScheduler"]}
    config = {"_class_name": "OnePassPrior", "_diffusers_version": diffusers_version}
    with atomic_folder(out) as beside:
        for name in ("prior", "scheduler"):
            (beside / name).mkdir()
            shutil.copyfile(source, beside / name / source.name)
        write_json(beside / "prior" / CONFIG, config | {key: prior.config[key] for key in (*_SIZES, "state_dim")})
        _save(state, beside / "prior" / WEIGHTS, folder)
        write_json(beside / "scheduler/scheduler_config.json", {**config, "_class_name": "OnePassScheduler"})
        write_transformers(clip, beside)
        write_json(beside / INDEX, index)
        (beside / CARD).write_text(_card(folder, "diffusers", kind_of(prior)), encoding="utf-8")


def _one_pass(folder: Path) -> EclipsePrior:
    prior = load_prior(folder)
    if not isinstance(prior, EclipsePrior):
        raise CheckpointError(
            f"{folder}: is {DESCRIBED['diffusion']}; its folder is in diffusers' own layout already, copy it"
        )
    return prior


def _check_clip(prior: EclipsePrior, folder: Path, clip: Path) -> None:
    path = clip / CLIP_CONFIG
    config = read_json(path)
    check_config(config, path)
    has = widths(canonical(config["model_cfg"], str(path)))
    # Priors that were not trained or imported here do not say which CLIP is theirs.
    check_widths(prior, has, str(folder), str(clip), "give its own by --frozen")
    wanted, found = _lineage(folder).get("encoder_hash"), weights_hash_of(config, clip / CLIP_WEIGHTS)
    if wanted not in (None, found):
        raise CheckpointError(
            f"{clip}: is the CLIP {found[:12]}, but {folder} was made for {str(wanted)[:12]}; give its own by --frozen"
        )


def _save(state: dict[str, Any], path: Path, folder: Path) -> None:
    told = {"prior_hash": prior_hash(folder), **_lineage(folder)}
    header = {META: json.dumps(told, sort_keys=True, allow_nan=False)}
    save_file({key: value.detach().contiguous() for key, value in state.items()}, path, metadata=header)


def _lineage(folder: Path) -> dict[str, Any]:
    """training.json as others may read it: folders of this machine by their name, without the path to them."""
    path = folder / LINEAGE
    lineage = dict(read_json(path)) if path.is_file() else {}
    if "encoder" in lineage:
        lineage["encoder"] = _public(lineage["encoder"])
    if imported := lineage.get("imported"):
        told = {**imported, "decoder": _public(imported["decoder"])}
        if imported["revision"] is None:
            told["source"] = Path(imported["source"]).name
            del told["revision"]
        lineage["imported"] = told
    return lineage


def _public(name: str) -> str:
    """``OWNER/NAME@COMMIT`` as it is; the last part of a path."""
    return name if _AT_COMMIT.fullmatch(name) else Path(name.removesuffix("@local")).name


_USAGE = {
    "upstream": """## Use

With the authors' code (eclipse-t2i/eclipse-inference, lambda-eclipse-inference for a prior with control):

```python
from {module} import PriorTransformer

prior = PriorTransformer.from_pretrained("PATH_OR_REPOSITORY")
```

diffusers' class of the same name loads these files with a warning and then computes something else.
""",
    "diffusers": """## Use

```python
from diffusers import KandinskyV22PriorPipeline

prior = KandinskyV22PriorPipeline.from_pretrained("PATH_OR_REPOSITORY", trust_remote_code=True)
image_embeds, negative_image_embeds = prior("a red star", guidance_scale=1.0, return_dict=False)
```

`trust_remote_code` runs `prior/one_pass.py` and `scheduler/one_pass.py` of this folder. One pass, no guidance: with
another `guidance_scale` than 1 the prior raises an error.
""",
}
_MODULES = {"eclipse": "src.priors.prior_transformer", "lambda-eclipse": "src.priors.lambda_prior_transformer"}


def _card(folder: Path, form: str, kind: str) -> str:
    """The card that the prior came with, or one of its lineage; and how this form of it is used."""
    usage = _USAGE[form].replace("{module}", _MODULES.get(kind, ""))
    if (folder / CARD).is_file():
        return (folder / CARD).read_text(encoding="utf-8").rstrip() + "\n\n" + usage
    lineage, sections = _lineage(folder), []
    imported = lineage.get("imported")
    licence = "other\nlicense_name: that-of-the-source" if imported else "apache-2.0"
    title = str(imported["source"]) if imported else prior_hash(folder)[:12]
    sections.append(f"---\nlicense: {licence}\npipeline_tag: text-to-image\n---\n\n# {title}")
    if imported:
        at = f"@{imported['revision']}" if "revision" in imported else ""
        sections.append(
            f"The weights are those of {imported['source']}{at}, converted and not trained on; their licence is the "
            "one given there."
        )
    rows = "\n".join(f"| {key} | {value} |" for key, value in sorted(flatten(lineage).items()))
    sections += [f"## Lineage\n\n| what | value |\n| --- | --- |\n{rows}", usage]
    return "\n\n".join(sections)
