"""Stage ``frozen``: the shipped CLIP and decoder, small ones trained on the dataset, or the published ones."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

from eclipse.config import Params
from eclipse.config.frozen import HubParams
from eclipse.data.manifest import load_manifest
from eclipse.errors import DataError
from eclipse.files import atomic_folder, read_json, tree_digest, write_json
from eclipse.models.clip_forms import import_clip
from eclipse.models.decoder.reference import INSIDE, REFERENCE, decoder_digest, pin
from eclipse.models.hub import is_local
from eclipse.stages import pretrain


def run(params: Params, *, dataset: Path, out: Path, metrics: Path, checkpoints: Path) -> dict[str, str]:
    """Provide the frozen models: ``out``/clip, ``out``/decoder and, for the mini world, ``out``/oracle.

    A published decoder is not copied: ``out``/decoder.json names it by repository, commit and digests.
    """
    if params.frozen.hub is not None and params.frozen.source == "hub":
        _take_published(params.frozen.hub, out)
    elif params.frozen.source == "shipped":
        _copy_shipped(params.frozen.path, out)
    else:
        _train(params, dataset, out, checkpoints)
    digests = {"clip": tree_digest(out / "clip"), "decoder": decoder_digest(out)}
    if (out / "oracle").exists():
        digests["oracle"] = tree_digest(out / "oracle")
    write_json(metrics, digests)
    return digests


def _copy_shipped(source: Path, out: Path) -> None:
    if not (source / pretrain.DIGESTS).is_file():
        raise DataError(f"{source / pretrain.DIGESTS}: no such file; set frozen.path to a folder of frozen models")
    pretrain.check_digests(source, read_json(source / pretrain.DIGESTS))
    with atomic_folder(out) as beside:
        for name in ("clip", "decoder", "oracle"):
            if (source / name).is_dir():
                shutil.copytree(source / name, beside / name)


def _take_published(hub: HubParams, out: Path) -> None:
    """The CLIP in open_clip's form, and the decoder by reference, or copied where it is a local folder."""
    encoder, decoder = hub.encoder, hub.decoder
    with atomic_folder(out) as beside:
        # What cannot be had is told before gigabytes are converted.
        if is_local(decoder.repo, decoder.revision):
            shutil.copytree(decoder.repo, beside / INSIDE)
        else:
            write_json(beside / REFERENCE, asdict(pin(decoder.repo, decoder.revision or "")))
        import_clip(encoder.repo, encoder.revision, beside / "clip", logit_scale=encoder.logit_scale)


def _train(params: Params, dataset: Path, out: Path, checkpoints: Path) -> None:
    """Train on ``dataset``; a stopped training goes on only under the same parameters and data."""
    depends = [params.frozen.model_dump(mode="json"), load_manifest(dataset).digest]
    digest = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()
    states = checkpoints / f"frozen-{digest[:16]}"
    parts = states / "parts"
    clip, movq = parts / "clip", parts / "movq"
    if not clip.exists():
        pretrain.clip(params, out=clip, checkpoints=states, dataset=dataset)
    if not movq.exists():
        pretrain.movq(params, out=movq, checkpoints=states, dataset=dataset)
    with atomic_folder(out) as beside:
        pretrain.decoder(params, clip=clip, movq=movq, out=beside / "decoder", checkpoints=states, dataset=dataset)
        shutil.copytree(clip, beside / "clip")
    shutil.rmtree(states)
