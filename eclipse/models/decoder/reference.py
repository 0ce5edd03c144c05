"""``decoder.json``: a decoder too large to copy, named by its source, full revision and the digests of its files; and
the decoder of a folder of frozen models, whether it lies inside or is named so."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from eclipse.config.decoder import DecoderParams
from eclipse.errors import CheckpointError, DataError
from eclipse.files import read_json, sha256, tree_digest
from eclipse.models import hub
from eclipse.models.decoder.base import Decoder
from eclipse.models.decoder.files import chosen, lacking
from eclipse.models.decoder.load import INDEX, adapter_of, load_decoder

INSIDE, REFERENCE = "decoder", "decoder.json"

Digest = Callable[[Path], str]

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

    def __str__(self) -> str:
        return f"{self.source}@{self.revision}"

    def fetch(self, name: str) -> Path:
        """The file, from the local cache or fetched; :class:`CheckpointError` where it cannot be had."""
        return hub.fetch(self.source, self.revision, name)


def open_decoder(
    frozen: Path, params: DecoderParams | None = None, *, device: str | torch.device | None = None
) -> Decoder:
    """The decoder of the folder ``frozen``, inside (``decoder/``) or by reference; as :func:`load_decoder` loads it."""
    return load_decoder(decoder_folder(frozen), params, device=device)


def decoder_folder(frozen: Path, *, digest: Digest = sha256) -> Path:
    """The folder of the decoder of ``frozen``: the one inside, or where :func:`locate` has what is referred to.

    :class:`CheckpointError` where there are both; with neither, the folder that is missing.
    """
    reference = frozen / REFERENCE
    if not reference.is_file():
        return frozen / INSIDE
    if (frozen / INSIDE).exists():
        raise CheckpointError(f"{frozen}: has to hold either {INSIDE}/ or {REFERENCE}; remove one")
    return locate(read_reference(reference), digest=digest)


def decoder_digest(frozen: Path) -> str:
    """The digest of the decoder of ``frozen``, the same for one inside and for a reference to it."""
    reference = frozen / REFERENCE
    return read_reference(reference).digest if reference.is_file() else tree_digest(frozen / INSIDE)


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


def locate(reference: DecoderReference, *, digest: Digest = sha256) -> Path:
    """The decoder's folder in the local Hugging Face cache, every listed file there and checked by ``digest``.

    What is missing is fetched, unless ``HF_HUB_OFFLINE`` is set; ``HF_HOME`` and ``HF_TOKEN`` count as everywhere.
    Raises :class:`CheckpointError` naming repository, revision and file where one cannot be had or has another digest,
    and for a decoder of a class that is not known.
    """
    if INDEX not in reference.files:
        raise CheckpointError(f"{reference}: its files lack {INDEX}; list all files of the decoder")
    index = reference.fetch(INDEX)
    _check_digest(reference, INDEX, index, digest)
    adapter = adapter_of(index, str(reference))
    missing = lacking(adapter, reference.files, reference.fetch)
    if missing:
        raise CheckpointError(f"{reference}: its files lack {', '.join(missing)}; list all files of the decoder")
    for name in reference.files:
        _check_digest(reference, name, reference.fetch(name), digest)
    return index.parent


def pin(source: str, revision: str, *, digest: Digest = sha256) -> DecoderReference:
    """The reference to the decoder ``source`` at the full ``revision``, its files as they are in the cache or fetched.

    Raises what :func:`locate` raises.
    """
    reference = _checked(DecoderReference(source, revision, {}), "--source, --revision")
    adapter = adapter_of(reference.fetch(INDEX), str(reference))
    names = chosen(adapter, hub.listing(source, revision))
    missing = lacking(adapter, names, reference.fetch)
    if missing:
        raise CheckpointError(
            f"{reference}: has no {', '.join(missing)}, which {adapter.PIPELINE} needs; fetch them with a network, or "
            "pin a revision whose weights are safetensors"
        )
    return DecoderReference(source, revision, {name: digest(reference.fetch(name)) for name in names})


def _check_digest(reference: DecoderReference, name: str, file: Path, digest: Digest) -> None:
    found = digest(file)
    if found != reference.files[name]:
        raise CheckpointError(
            f"{file}: not the file that {reference} is pinned to ({name} should have SHA-256 "
            f"{reference.files[name][:12]}…, has {found[:12]}…); delete it and fetch it again"
        )


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
