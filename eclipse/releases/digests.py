"""Digests of folders, read again only when a file in them changed.

A server looks at its releases every few seconds and a decoder has gigabytes. Who rewrites a file changes its time of
change, which no one but the kernel can set.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from eclipse.files import sha256, tree_digest
from eclipse.models.checkpoint import prior_hash

_Stamp = tuple[tuple[str, int, int, int, int], ...]


def tree_digest_of(folder: Path) -> str:
    """:func:`eclipse.files.tree_digest` of ``folder``."""
    return _tree(folder.resolve(), stamp(folder))


def prior_hash_of(folder: Path) -> str:
    """:func:`eclipse.models.checkpoint.prior_hash` of ``folder``."""
    return _prior(folder.resolve(), stamp(folder))


def sha256_of(file: Path) -> str:
    """:func:`eclipse.files.sha256` of ``file``."""
    return _file(file.resolve(), _entry(file, ""))


def stamp(folder: Path) -> _Stamp:
    """Name, inode, size and times of all files below ``folder``; empty for one that is not there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(_entry(path, path.relative_to(folder).as_posix()) for path in files)


def _entry(path: Path, name: str) -> tuple[str, int, int, int, int]:
    found = path.stat()
    return (name, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@lru_cache(maxsize=64)
def _tree(folder: Path, _: _Stamp) -> str:
    return tree_digest(folder)


@lru_cache(maxsize=64)
def _prior(folder: Path, _: _Stamp) -> str:
    return prior_hash(folder)


@lru_cache(maxsize=4096)
def _file(file: Path, _: tuple[str, int, int, int, int]) -> str:
    return sha256(file)
