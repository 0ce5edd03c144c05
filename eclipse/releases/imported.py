"""Published priors that were imported: ``artifacts/imported/VARIANT/``, with ``prior/`` and its own ``frozen/``.

They are served where nothing was promoted, and before what was trained here: who imports one wants to see it.
"""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eclipse.config.frozen import HubParams
from eclipse.errors import CheckpointError
from eclipse.files import atomic_folder, read_json, sha256, write_json
from eclipse.models import hub
from eclipse.models.checkpoint import CONFIG, DESCRIBED, WEIGHTS, Kind, Prior, kind_of, load_prior, save_prior
from eclipse.models.published import Published, encoder_width, known_prior, of_width
from eclipse.releases.decoder import REFERENCE, pin

IMPORTED = Path("artifacts/imported")
PRIOR, FROZEN, TRAINING = "prior", "frozen", "training.json"
VARIANTS: tuple[Kind, ...] = ("eclipse", "lambda-eclipse")

_PICKLED = ".bin"


def import_prior(
    source: str,
    revision: str | None,
    *,
    frozen: HubParams | None,
    out: Path | None,
    name: str,
    decoder_revision: str | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Read the published prior of ``source`` strictly; write it with the CLIP and decoder it is meant for.

    ``frozen`` names CLIP and decoder; where it is None or meant for other widths, the published ones are taken. The
    decoder is taken at ``decoder_revision`` where that is given.
    ``out`` defaults to the variant's folder of :data:`IMPORTED`; ``name`` is the decoder's in model ids where the
    prior is none of the published. Returns the folder and the prior's training.json. Raises
    :class:`CheckpointError` for anything that is no such prior; ``out`` then stays as it was.
    """
    told = known_prior(source)
    if told is not None and revision is None:
        revision = told.revision
    hub.is_local(source, revision, again=f"{_command(source, None)} --revision ")
    prior, files = _read(source, revision, told)
    kind = kind_of(prior)
    target = out or IMPORTED / kind
    models = _models(prior, frozen, source, decoder_revision)
    _check_commits(models, _command(source, revision))
    with atomic_folder(target) as beside:
        encoder = _encoder(models, beside / FROZEN / "clip", target.parent)
        _decoder(models, beside / FROZEN)
        remedy = "set frozen.hub to the CLIP and decoder that belong to it"
        check_widths(prior, encoder["widths"], source, models.encoder.repo, remedy)
        record = {
            "source": source,
            "revision": revision,
            "files": {file: sha256(path) for file, path in files.items()},
            "decoder": f"{models.decoder.repo}@{models.decoder.revision or 'local'}",
            "decoder_name": told.decoder_name if told else name,
            "trained_by": "the source; nothing here was trained",
        }
        lineage = {
            "prior_hash": save_prior(prior, beside / PRIOR, {"imported": record}),
            "encoder": encoder["name"],
            "encoder_hash": encoder["hash"],
            "imported": record,
        }
        write_json(beside / PRIOR / TRAINING, lineage)
    return target, lineage


def imported(root: Path) -> dict[str, Path]:
    """Variant → folder of what was imported below ``root``."""
    found = {variant: root / IMPORTED / variant for variant in VARIANTS}
    return {variant: folder for variant, folder in found.items() if (folder / PRIOR / TRAINING).is_file()}


def check_widths(prior: Prior, widths: tuple[int, int], source: str, encoder: str, remedy: str) -> None:
    """:class:`CheckpointError` where ``widths`` (embeddings, text states) of a CLIP are not those of ``prior``."""
    wanted = (prior.config["embedding_dim"], prior.encoder_hidden_states_proj.in_features)
    if wanted != widths:
        raise CheckpointError(
            f"{source}: made for embeddings {wanted[0]} and text states {wanted[1]} wide, but {encoder} has "
            f"{widths[0]} and {widths[1]}; {remedy}"
        )


def _read(source: str, revision: str | None, told: Published | None) -> tuple[Prior, dict[str, Path]]:
    where = f"{source}@{revision}" if revision else source
    names = set(hub.listing(source, revision))
    if CONFIG not in names and f"prior/{CONFIG}" in names:
        raise CheckpointError(
            f"{where}: is a pipeline, and its prior/ is {_kind_in(source, revision)}; import the prior by itself, or "
            "use the pipeline with diffusers"
        )
    if WEIGHTS not in names and any(name.endswith(_PICKLED) for name in names):
        raise CheckpointError(
            f"{where}: has its weights pickled only; these are never read, since they can run code: take a revision "
            f"that has {WEIGHTS}"
        )
    files = {name: hub.fetch(source, revision, name) for name in (CONFIG, WEIGHTS)}
    prior = load_prior(files[CONFIG].parent, kind=told.kind if told else None)
    if kind_of(prior) not in VARIANTS:
        raise CheckpointError(f"{where}: is {DESCRIBED[kind_of(prior)]}; nothing here serves it, use it with diffusers")
    return prior, files


def _kind_in(source: str, revision: str | None) -> str:
    config = read_json(hub.fetch(source, revision, f"prior/{CONFIG}"))
    return f"a {config.get('_class_name')} with {config.get('num_layers')} layers"


def _models(prior: Prior, given: HubParams | None, source: str, decoder_revision: str | None) -> HubParams:
    """The CLIP and decoder for ``prior``: those given unless they are known to be of another width."""
    width = int(prior.config["embedding_dim"])
    if given is None or encoder_width(given.encoder.repo) not in (None, width):
        told = known_prior(source) or of_width(width)
        if told is None:
            raise CheckpointError(
                f"{source}: for embeddings {width} wide no CLIP and decoder are known; set frozen.hub.encoder.repo and "
                "frozen.hub.decoder.repo to those that belong to it"
            )
        given = HubParams.model_validate({"encoder": asdict(told.encoder), "decoder": asdict(told.decoder)})
    if decoder_revision is None:
        return given
    return given.model_copy(update={"decoder": given.decoder.model_copy(update={"revision": decoder_revision})})


def _command(source: str, revision: str | None) -> str:
    return f"python -m eclipse import-prior {shlex.quote(source)}" + (f" --revision {revision}" if revision else "")


def _check_commits(models: HubParams, command: str) -> None:
    """Before gigabytes are read for the one: that it is settled which files the other is, too."""
    decoder, encoder = models.decoder, models.encoder
    hub.is_local(decoder.repo, decoder.revision, again=f"{command} --decoder-revision ")
    hub.is_local(encoder.repo, encoder.revision, again=f"{command} --set frozen.hub.encoder.revision=")


def _encoder(models: HubParams, out: Path, siblings: Path) -> dict[str, Any]:
    """Import the CLIP to ``out``, or link the same one's files of another import; its name, hash and widths."""
    from eclipse.models.clip_folder import CONFIG as CLIP_CONFIG  # open_clip is slow to import, and servers look here
    from eclipse.models.clip_folder import WEIGHTS as CLIP_WEIGHTS
    from eclipse.models.clip_folder import weights_hash_of
    from eclipse.models.clip_forms import SOURCE, import_clip
    from eclipse.models.clip_forms_config import widths

    told = models.encoder
    same = {"source": told.repo, "revision": told.revision}
    for record in siblings.glob(f"*/{FROZEN}/clip/{SOURCE}"):
        known = read_json(record)
        # A folder may have changed since; a commit cannot.
        if told.revision and same == {key: known.get(key) for key in same} and told.logit_scale is None:
            shutil.copytree(record.parent, out, copy_function=os.link)
            break
    else:
        import_clip(told.repo, told.revision, out, logit_scale=told.logit_scale)
    config = read_json(out / CLIP_CONFIG)
    return {
        "name": config["name"],
        "hash": weights_hash_of(config, out / CLIP_WEIGHTS),
        "widths": widths(config["model_cfg"]),
    }


def _decoder(models: HubParams, frozen: Path) -> None:
    told = models.decoder
    if hub.is_local(told.repo, told.revision):
        shutil.copytree(told.repo, frozen / "decoder")
    else:
        write_json(frozen / REFERENCE, asdict(pin(told.repo, str(told.revision))))
