"""What a server in a folder serves: the promoted champions; else what was imported; else the checked-out state."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eclipse.config import load_params
from eclipse.config.serve import ServeParams
from eclipse.errors import CheckpointError, DataError, EclipseError
from eclipse.files import read_json
from eclipse.lineage import flatten
from eclipse.releases.decoder import REFERENCE, locate, read_reference
from eclipse.releases.digests import prior_hash_of, tree_digest_of
from eclipse.releases.imported import FROZEN as IMPORTED_FROZEN
from eclipse.releases.imported import IMPORTED as IMPORTED_FOLDER
from eclipse.releases.imported import PRIOR, VARIANTS, imported
from eclipse.releases.manifest import MANIFEST, check_manifest
from eclipse.releases.state import State
from eclipse.releases.store import STATE, VARIABLE, Releases, releases_folder

log = logging.getLogger(__name__)

SELECTED = {"eclipse": Path("artifacts/selected"), "lambda-eclipse": Path("artifacts/subjects/selected")}
FROZEN, FROZEN_DIGESTS = Path("artifacts/frozen"), Path("metrics/frozen.json")
UNPROMOTED, IMPORTED = "unpromoted", "imported"


@dataclass(frozen=True)
class ServedPrior:
    """A prior to serve under the id ``model`` (``NAME``, or ``NAME@candidate``).

    ``lineage`` holds what training.json says, keys joined by dots, and what was registered: ``registered.name``,
    ``registered.version`` and the version's tags (``eclipse.…``).
    """

    model: str
    variant: str
    role: Literal["champion", "candidate"]
    prior_hash: str
    folder: Path
    version: str | None
    lineage: dict[str, Any]


@dataclass(frozen=True)
class Served:
    """All that a server loads, every digest checked. ``release`` names the state that it comes from.

    ``decoder_hash`` is that of the decoder's files, wherever they lie; ``encoder_hash`` is that of the CLIP which the
    priors say they were trained on: who loads ``clip`` compares.
    """

    priors: tuple[ServedPrior, ...]
    clip: Path
    decoder: Path
    frozen_digest: str
    encoder_hash: str
    decoder_hash: str
    release: str


def resolve(root: Path = Path()) -> Served:
    """What to serve in ``root``: the champions in ``ECLIPSE_RELEASES`` or ``root``/releases, with their candidates.

    Where nothing was promoted, what ``import-prior`` wrote below ``root``/artifacts/imported; where there is nothing
    either, the checked-out state below ``root``/artifacts. :class:`CheckpointError` names the file that does not have
    its digest; a candidate that does not fit is left out with a warning, because it must not stop the champion.
    :class:`EclipseError` where there is nothing to serve.
    """
    if (root / MANIFEST).is_file():
        check_manifest(root)
    releases = Releases(releases_folder(root))
    state = releases.state()
    if state.champions and state.frozen:
        return _promoted(releases, state, state.frozen)
    if os.environ.get(VARIABLE):
        raise EclipseError(
            f"{releases.folder / STATE}: names no champion; promote one (python -m eclipse promote) or unset {VARIABLE}"
        )
    found = imported(root)
    return _imported(found) if found else _checked_out(root)


def signature(root: Path = Path()) -> str:
    """A text that changes when :func:`resolve` may say something else; costs a few calls of ``stat``."""
    files = [releases_folder(root) / STATE]
    for folder in (*SELECTED.values(), *(IMPORTED_FOLDER / variant / PRIOR for variant in VARIANTS)):
        files += [root / folder / name for name in ("config.json", "diffusion_pytorch_model.safetensors")]
    digest = hashlib.sha256()
    for file in files:
        try:
            found = file.stat()
            digest.update(f"{found.st_ino} {found.st_size} {found.st_mtime_ns}\n".encode())
        except OSError:
            digest.update(b"none\n")
    return digest.hexdigest()


def _promoted(releases: Releases, state: State, digest: str) -> Served:
    champions = [_released(releases, state, name, "champion") for name in state.champions]
    encoder_hash = _one_encoder(champions)
    candidates = list(_candidates(releases, state, encoder_hash))
    return _served((*champions, *candidates), releases.frozen(digest), digest, encoder_hash, state.release)


def _candidates(releases: Releases, state: State, encoder_hash: str) -> Iterator[ServedPrior]:
    for name, model in state.models.items():
        champion = state.entry(name, "champion")
        if model.candidate is None or (champion and champion.prior_hash == model.candidate.prior_hash):
            continue
        try:
            candidate = _released(releases, state, name, "candidate")
        except (CheckpointError, DataError) as error:
            log.warning("warning: the candidate of %s is not served: %s", name, error)
            continue
        if candidate.lineage.get("encoder_hash") != encoder_hash:
            log.warning("warning: the candidate of %s is not served: it was trained on another CLIP", name)
            continue
        yield candidate


def _released(releases: Releases, state: State, name: str, role: Literal["champion", "candidate"]) -> ServedPrior:
    entry = state.entry(name, role)
    if entry is None:
        raise CheckpointError(f"{releases.folder / STATE}: {name} has no {role}")
    folder = releases.prior(entry.prior_hash)
    # The record beside a prior tells of the name it was registered under last; the state tells what it serves as.
    registered = {**releases.registered(entry.prior_hash), "name": name, "version": entry.version}
    lineage = flatten(read_json(folder / "training.json")) | dict(registered.pop("tags", {}))
    lineage |= flatten({"registered": registered})
    model = name if role == "champion" else f"{name}@candidate"
    return ServedPrior(model, state.models[name].variant, role, entry.prior_hash, folder, entry.version, lineage)


def _imported(folders: dict[str, Path]) -> Served:
    digests = {tree_digest_of(folder / IMPORTED_FROZEN): folder / IMPORTED_FROZEN for folder in folders.values()}
    if len(digests) > 1:
        raise CheckpointError(
            f"{' and '.join(map(str, folders.values()))}: were imported for different frozen models, and a server has "
            "one CLIP and one decoder; remove one of them"
        )
    (digest, frozen), priors = next(iter(digests.items())), []
    for variant, folder in folders.items():
        decoder = read_json(folder / PRIOR / "training.json")["imported"]["decoder_name"]
        priors.append(_selected(folder / PRIOR, variant, f"eclipse-prior-{variant}-{decoder}", "import it again"))
    return _served(tuple(priors), frozen, digest, _one_encoder(priors), IMPORTED)


def _checked_out(root: Path) -> Served:
    present = {variant: root / folder for variant, folder in SELECTED.items() if (root / folder).is_dir()}
    if not present or not (root / FROZEN).is_dir():
        missing = root / (FROZEN if present else SELECTED["eclipse"])
        raise EclipseError(
            f"{missing}: no such folder, and nothing was promoted; run `make demo`, or name promoted releases by "
            f"{VARIABLE}"
        )
    name = _decoder_name(root)
    priors = [_selected(folder, variant, f"eclipse-prior-{variant}-{name}") for variant, folder in present.items()]
    _check_frozen(root)
    return _served(tuple(priors), root / FROZEN, tree_digest_of(root / FROZEN), _one_encoder(priors), UNPROMOTED)


def _selected(folder: Path, variant: str, model: str, remedy: str = "run `dvc repro`") -> ServedPrior:
    training = read_json(folder / "training.json")
    found = prior_hash_of(folder)
    if found != training.get("prior_hash"):
        raise CheckpointError(
            f"{folder}: holds the prior {found[:12]}, not {str(training.get('prior_hash'))[:12]} as its training.json "
            f"says; {remedy}"
        )
    return ServedPrior(model, variant, "champion", found, folder, None, flatten(training))


def _check_frozen(root: Path) -> None:
    if not (root / FROZEN_DIGESTS).is_file():
        return
    for name, digest in read_json(root / FROZEN_DIGESTS).items():
        folder = root / FROZEN / name
        if folder.is_dir() and tree_digest_of(folder) != digest:
            raise CheckpointError(f"{folder}: not what {root / FROZEN_DIGESTS} records; run `dvc repro frozen`")


def _served(
    priors: tuple[ServedPrior, ...], frozen: Path, frozen_digest: str, encoder_hash: str, release: str
) -> Served:
    decoder = frozen / "decoder"
    if (frozen / REFERENCE).is_file():
        reference = read_reference(frozen / REFERENCE)
        decoder, decoder_hash = locate(reference), reference.digest
    else:
        decoder_hash = tree_digest_of(decoder)
    return Served(priors, frozen / "clip", decoder, frozen_digest, encoder_hash, decoder_hash, release)


def _one_encoder(priors: list[ServedPrior]) -> str:
    encoders = {str(prior.lineage.get("encoder_hash")): prior.folder for prior in priors}
    if len(encoders) > 1 or "None" in encoders:
        listed = ", ".join(f"{folder} {encoder[:12]}" for encoder, folder in encoders.items())
        raise CheckpointError(f"priors of several CLIPs cannot be served together ({listed}); promote those of one")
    return next(iter(encoders))


def _decoder_name(root: Path) -> str:
    path = root / "params.yaml"
    serve = load_params(path).serve if path.is_file() else ServeParams()
    return serve.decoder
