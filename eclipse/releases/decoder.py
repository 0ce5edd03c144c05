"""``decoder.json``: a decoder too large to copy, named by its source, full revision and the digests of its files."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from eclipse.errors import CheckpointError, DataError
from eclipse.files import read_json
from eclipse.releases.digests import sha256_of

REFERENCE = "decoder.json"
INDEX = "model_index.json"
PIPELINE = "KandinskyV22Pipeline"
"""The only class of decoder that the service draws with."""

FILES = (
    INDEX,
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "movq/config.json",
    "movq/diffusion_pytorch_model.safetensors",
    "scheduler/scheduler_config.json",
)
"""What is loaded of such a decoder, and so has to be pinned."""

_REVISION, _DIGEST = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}")
_SOURCE = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True)
class DecoderReference:
    """A Hugging Face repository ``source`` at a commit ``revision``; ``files``: path in it → SHA-256."""

    source: str
    revision: str
    files: dict[str, str]

    @property
    def digest(self) -> str:
        """What :func:`eclipse.files.tree_digest` gives for a folder of these files."""
        digest = hashlib.sha256()
        for path in sorted(PurePosixPath(name) for name in self.files):
            digest.update(f"{path}\0{self.files[str(path)]}\n".encode())
        return digest.hexdigest()


def read_reference(path: Path) -> DecoderReference:
    """Read and check ``decoder.json``; :class:`CheckpointError` names the field that is wrong."""
    try:
        value: Any = read_json(path)
    except DataError as error:
        raise CheckpointError(str(error)) from None
    if not isinstance(value, dict) or set(value) != {"source", "revision", "files"}:
        raise CheckpointError(f"{path}: has to hold source, revision and files, and nothing else")
    reference, files = _checked(DecoderReference(**value), str(path)), value["files"]
    if not isinstance(files, dict) or not files:
        raise CheckpointError(f"{path}: files is empty; list each file of the decoder with its SHA-256")
    for name, digest in files.items():
        _check_file(path, name, digest)
    return reference


def locate(reference: DecoderReference) -> Path:
    """The decoder's folder in the local Hugging Face cache, every listed file there and checked.

    What is missing is fetched, unless ``HF_HUB_OFFLINE`` is set; ``HF_HOME`` and ``HF_TOKEN`` count as everywhere.
    Raises :class:`CheckpointError` naming repository, revision and file where one cannot be had or has another digest,
    and for a decoder of another class than :data:`PIPELINE`.
    """
    if INDEX not in reference.files:
        raise CheckpointError(f"{_name(reference)}: its files lack {INDEX}; list all files of the decoder")
    index = _fetch(reference, INDEX)
    _check_digest(reference, INDEX, index)
    _check_class(reference, index)
    missing = [name for name in FILES if name not in reference.files]
    if missing:
        raise CheckpointError(f"{_name(reference)}: its files lack {', '.join(missing)}; list all files of the decoder")
    for name in reference.files:
        _check_digest(reference, name, _fetch(reference, name))
    return index.parent


def pin(source: str, revision: str) -> DecoderReference:
    """The reference to the decoder ``source`` at the full ``revision``, its files as they are in the cache or fetched.

    Raises what :func:`locate` raises.
    """
    reference = _checked(DecoderReference(source, revision, {}), "--source, --revision")
    _check_class(reference, _fetch(reference, INDEX))
    return DecoderReference(source, revision, {name: sha256_of(_fetch(reference, name)) for name in FILES})


def _fetch(reference: DecoderReference, name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.constants import HF_HUB_CACHE

    try:
        return Path(hf_hub_download(reference.source, name, revision=reference.revision))
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{_name(reference)}: {name} is not in {HF_HUB_CACHE} and cannot be fetched ({reason}); on a machine "
            f"with a network run `hf download {reference.source} --revision {reference.revision}` and copy HF_HOME"
        ) from None


def _check_digest(reference: DecoderReference, name: str, file: Path) -> None:
    if sha256_of(file) != reference.files[name]:
        raise CheckpointError(
            f"{file}: not the file that {_name(reference)} is pinned to ({name} should have SHA-256 "
            f"{reference.files[name][:12]}…, has {sha256_of(file)[:12]}…); delete it and fetch it again"
        )


def _check_class(reference: DecoderReference, index: Path) -> None:
    found = read_json(index).get("_class_name")
    if found != PIPELINE:
        raise CheckpointError(f"{_name(reference)}: is a {found}, and only decoders for {PIPELINE} can be served")


def _checked(reference: DecoderReference, where: str) -> DecoderReference:
    source, revision = reference.source, reference.revision
    if not isinstance(source, str) or not _SOURCE.fullmatch(source):
        raise CheckpointError(f"{where}: source {source!r} is no repository; write OWNER/NAME")
    if not isinstance(revision, str) or not _REVISION.fullmatch(revision):
        raise CheckpointError(
            f"{where}: revision {revision!r} may move; write the full commit of {source}, 40 hexadecimal digits"
        )
    return reference


def _check_file(path: Path, name: Any, digest: Any) -> None:
    relative = isinstance(name, str) and name and str(PurePosixPath(name)) == name
    if not relative or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise CheckpointError(f"{path}: files: {name!r} is no path in a repository")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise CheckpointError(f"{path}: files: {name} needs its SHA-256, 64 hexadecimal digits")


def _name(reference: DecoderReference) -> str:
    return f"{reference.source}@{reference.revision}"
