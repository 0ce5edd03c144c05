"""Evaluation sets that training data is checked against: their pictures' hashes, and their prompts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from eclipse.data.dedupe import fingerprint
from eclipse.data.images import decode_png
from eclipse.data.ingest_sources import IMAGE_SUFFIXES
from eclipse.data.shards import read_members
from eclipse.data.split import normalise
from eclipse.errors import DataError
from eclipse.files import atomic_file


@dataclass(frozen=True)
class Benchmarks:
    """``names`` of the pictures and their perceptual ``hashes`` uint64 [N]; ``prompts`` as they are compared."""

    names: tuple[str, ...]
    hashes: NDArray[np.uint64]
    prompts: frozenset[str]


def load_benchmarks(paths: Iterable[Path]) -> Benchmarks:
    """Read folders (pictures and ``*.txt`` of prompts, one a line), tar shards, ``.txt`` and fingerprint files.

    A path that is none of these or holds neither picture nor prompt, or a picture that cannot be read, is a
    :class:`DataError`.
    """
    names: list[str] = []
    hashes: list[int] = []
    prompts: set[str] = set()
    for path in paths:
        pictures, said = _read(path)
        if not pictures and not said:
            known = ", ".join((*IMAGE_SUFFIXES, ".txt"))
            raise DataError(f"data.web.benchmarks: {path}: holds no picture and no prompt ({known})")
        names.extend(name for name, _ in pictures)
        hashes.extend(structure for _, structure in pictures)
        prompts |= said
    return Benchmarks(tuple(names), np.array(hashes, np.uint64), frozenset(prompts))


def _read(path: Path) -> tuple[list[tuple[str, int]], set[str]]:
    """(name, hash) of the pictures of one path, and its prompts."""
    pictures: list[tuple[str, int]] = []
    prompts: set[str] = set()
    for name, content in _parts(path):
        if isinstance(content, int):
            pictures.append((name, content))
        elif Path(name).suffix.lower() == ".txt":
            lines = content.decode("utf-8", "replace").splitlines()
            prompts.update(normalise(line) for line in lines if line.strip())
        elif Path(name).suffix.lower() in IMAGE_SUFFIXES:
            pictures.append((name, fingerprint(decode_png(content, name)).structure))
    return pictures, prompts


def save_benchmarks(benchmarks: Benchmarks, out: Path) -> None:
    """Write a fingerprint file (parquet): what :func:`load_benchmarks` needs, without the pictures."""
    prompts = pa.array(sorted(benchmarks.prompts), pa.string())
    empty = pa.nulls(len(prompts), pa.uint64())
    table = pa.table(
        {"name": pa.array(benchmarks.names, pa.string()), "phash": pa.array(benchmarks.hashes, pa.uint64())}
    )
    with atomic_file(out) as beside:
        pq.write_table(pa.concat_tables([table, pa.table({"name": prompts, "phash": empty})]), beside)


def _parts(path: Path) -> Iterator[tuple[str, bytes | int]]:
    """(name, content) of what lies in ``path``; of a fingerprint file a hash or a prompt."""
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file() and file.suffix.lower() in (*IMAGE_SUFFIXES, ".txt"):
                yield f"{path.name}/{file.relative_to(path).as_posix()}", file.read_bytes()
    elif path.suffix == ".tar":
        yield from ((f"{path.name}/{name}", content) for name, content in read_members(path))
    elif path.suffix == ".txt" and path.is_file():
        yield path.name, path.read_bytes()
    elif path.suffix == ".parquet" and path.is_file():
        for row in pq.read_table(path, columns=["name", "phash"]).to_pylist():
            yield (row["name"], row["phash"]) if row["phash"] is not None else ("prompt.txt", row["name"].encode())
    else:
        raise DataError(f"data.web.benchmarks: {path}: no folder, and no .tar, .txt or .parquet (fingerprint) file")
