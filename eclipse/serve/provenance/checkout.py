"""What a checkout still has of a picture's chain: models and data under their hashes, the lock file, the commit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from eclipse.embeddings.header import store_hash
from eclipse.errors import EclipseError
from eclipse.files import read_json, sha256
from eclipse.lineage import git, git_bytes
from eclipse.models.checkpoint import CONFIG, WEIGHTS, prior_hash
from eclipse.releases.decoder import REFERENCE, read_reference
from eclipse.releases.digests import tree_digest_of
from eclipse.releases.store import releases_folder

_PRIORS = ("artifacts/selected", "artifacts/subjects/selected", "artifacts/priors/*", "artifacts/subjects/priors/*")
_STORES = ("artifacts/store", "artifacts/subjects/store")
_DATASETS = ("metrics/dataset.json", "metrics/subjects/dataset.json")
_LOCK = "dvc.lock"

Has: TypeAlias = Literal["here", "other", "absent"]


@dataclass(frozen=True)
class Standing:
    """Whether a checkout has something ``here`` or an ``other`` of its kind in its place, and ``where``."""

    has: Has
    where: str | None = None


@dataclass(frozen=True)
class Checkout:
    """A repository's folder, with what its stages wrote and the releases it serves (``ECLIPSE_RELEASES``)."""

    root: Path = Path()

    def prior(self, hash_: str) -> Path | None:
        """A folder with this prior: among the releases, the selected, all that were trained."""
        named = [releases_folder(self.root) / "priors" / hash_, *self._globbed(_PRIORS)]
        return next((folder for folder in named if _tells(folder, hash_) and prior_hash(folder) == hash_), None)

    def frozen(self) -> Iterator[Path]:
        """All folders of frozen models, those of the releases first; a folder need not have its decoder inside."""
        yield from sorted((releases_folder(self.root) / "frozen").glob("[0-9a-f]*"))
        yield from self._globbed(("artifacts/frozen", "models/*"))

    def decoder(self, digest: str) -> Path | None:
        """The folder of the decoder with this digest, or the file that refers to it (``decoder.json``)."""
        for folder in self.frozen():
            inside, reference = folder / "decoder", folder / REFERENCE
            if inside.is_dir() and tree_digest_of(inside) == digest:
                return inside
            if reference.is_file() and read_reference(reference).digest == digest:
                return reference
        return None

    def store(self, hash_: str) -> Standing:
        """The embedding store: its header holds the hashes of all its files."""
        return _standing(hash_, ((folder, _hash_of_store(folder)) for folder in self._globbed(_STORES)))

    def dataset(self, digest: str) -> Standing:
        """The dataset as the metric files tell it, which git keeps."""
        files = self._globbed(_DATASETS)
        return _standing(digest, ((file, read_json(file).get("digest")) for file in files))

    def lock(self, hash_: str, commit: str | None) -> Standing:
        """dvc.lock as it lies here, else as git has it at ``commit``."""
        file = self.root / _LOCK
        found = _standing(hash_, [(file, sha256(file))] if file.is_file() else [])
        if found.has != "here" and commit:
            kept = git_bytes(self.root, "cat-file", "blob", f"{commit}:{_LOCK}")
            if kept and hashlib.sha256(kept).hexdigest() == hash_:
                return Standing("here", f"{_LOCK} at commit {commit[:12]}")
        return found

    def commit(self, commit: str) -> Standing:
        """Whether git knows the commit, and whether it is the one checked out."""
        if not git(self.root, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"):
            return Standing("absent")
        return Standing("here", "checked out" if git(self.root, "rev-parse", "HEAD") == commit else "in git")

    def _globbed(self, patterns: Iterable[str]) -> list[Path]:
        return [path for pattern in patterns for path in sorted(self.root.glob(pattern))]


def _tells(folder: Path, hash_: str) -> bool:
    """Whether this may be the prior: its record spares reading the weights of all others."""
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        return False
    record = folder / "training.json"
    return not record.is_file() or read_json(record).get("prior_hash") == hash_


def _standing(wanted: str, found: Iterable[tuple[Path, str | None]]) -> Standing:
    others = []
    for path, name in found:
        if name == wanted:
            return Standing("here", str(path))
        others.append(str(path))
    return Standing("other", others[0]) if others else Standing("absent")


def _hash_of_store(folder: Path) -> str | None:
    try:
        return store_hash(folder)
    except EclipseError:  # an unfinished or older store is just another one
        return None
