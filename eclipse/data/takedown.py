"""The takedown list: what no stage may use, by URL, record id, sum of bytes or look of a picture."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from eclipse.config.data import WebParams
from eclipse.data.dedupe import fingerprint
from eclipse.data.images import decode_png
from eclipse.data.manifest import load_manifest, verify_shard
from eclipse.data.records import Record
from eclipse.data.shards import read_meta, read_shard
from eclipse.errors import ConfigError, DataError

DEFAULT = Path("conf/takedown.txt")
"""The project's own list: of the shipped subsets and web profiles, and of the audit where no other is given."""
NEAR = 4
"""Bits of the perceptual hash within which a picture is the one listed: recompressed and scaled copies are."""
_KINDS = (
    (re.compile(r"[0-9a-f]{64}"), "sha256"),
    (re.compile(r"[0-9a-f]{32}"), "id"),
    (re.compile("[0-9a-f]{16}"), "phash"),
)


@dataclass(frozen=True)
class Takedown:
    """What is listed. ``digest``: SHA-256 over it, None of an empty list; order and comments do not count."""

    urls: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    sums: frozenset[str] = frozenset()
    prints: tuple[int, ...] = ()
    digest: str | None = None

    def __bool__(self) -> bool:
        return self.digest is not None

    def says(self, *, url: str | None, id: str | None, sha256: str | None, phash: int | None = None) -> str | None:
        """By what a record is listed (``url``, ``id``, ``sha256``, ``phash``); None if it is not."""
        if url is not None and self.urls and url_key(url) in self.urls:
            return "url"
        if id is not None and id in self.ids:
            return "id"
        if sha256 is not None and sha256 in self.sums:
            return "sha256"
        if phash is not None and self.prints:
            apart = np.bitwise_count(np.array(self.prints, np.uint64) ^ np.uint64(phash))
            return "phash" if int(apart.min()) <= NEAR else None
        return None


@dataclass(frozen=True)
class Listed:
    """A record of a dataset that is on the list, and ``by`` what."""

    split: str
    shard: str
    id: str
    by: str
    url: str | None


def load_takedown(path: Path | None) -> Takedown:
    """Read a takedown list; None is an empty one.

    One entry a line: a URL (http and https are the same), a record's id (32 hexadecimal digits), the SHA-256 of a
    picture's original bytes (64), or its perceptual hash (16). ``#`` begins a comment, at the beginning of a line or
    after a space. Anything else is a :class:`ConfigError` naming the line.
    """
    if path is None:
        return Takedown()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"data.web.takedown: {path}: cannot be read ({error})") from None
    entries: dict[str, set[str]] = {"url": set(), "id": set(), "sha256": set(), "phash": set()}
    for number, line in enumerate(text.splitlines(), 1):
        entry = re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()
        if entry:
            kind, value = _entry(entry, f"{path}, line {number}")
            entries[kind].add(value)
    lines = sorted(f"{kind} {value}" for kind, values in entries.items() for value in values)
    return Takedown(
        frozenset(entries["url"]),
        frozenset(entries["id"]),
        frozenset(entries["sha256"]),
        tuple(sorted(int(value, 16) for value in entries["phash"])),
        hashlib.sha256("\n".join(lines).encode()).hexdigest() if lines else None,
    )


def _entry(entry: str, where: str) -> tuple[str, str]:
    if re.match(r"https?://", entry, re.IGNORECASE):
        return "url", url_key(entry)
    for pattern, kind in _KINDS:
        if pattern.fullmatch(entry.lower()):
            return kind, entry.lower()
    raise ConfigError(
        f"{where}: {entry!r} is no URL and has not the 64, 32 or 16 hexadecimal digits of a SHA-256 sum, a record's id "
        "or a perceptual hash"
    )


def url_key(url: str) -> str:
    """The URL as compared: without scheme and fragment, its host in lower case."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:  # such as an unfinished [address]
        return url.strip()
    return f"{parts.netloc.lower()}{parts.path or '/'}" + (f"?{parts.query}" if parts.query else "")


def phash_of(record: Record) -> int:
    """The record's perceptual hash: what it carries, or that of its picture."""
    carried = record.meta.get("phash")
    return int(carried, 16) if isinstance(carried, str) else fingerprint(decode_png(record.image, record.id)).structure


def audit(dataset: Path, takedown: Takedown) -> list[Listed]:
    """The records of ``dataset`` that are listed. Reads descriptions only, where they carry what is asked for."""
    found = []
    manifest = load_manifest(dataset)
    for name, split in manifest.splits.items() if takedown else ():
        for shard in split.shards:
            for id, by, url in _listed_in(verify_shard(dataset, shard), takedown):
                found.append(Listed(name, shard.file, id, by, url))
    return found


def _listed_in(path: Path, takedown: Takedown) -> Iterator[tuple[str, str, str | None]]:
    for record in _described(path, takedown):
        fields = record.meta.get("fields")
        fields = fields if isinstance(fields, dict) else {}
        url = fields.get("url")
        phash = phash_of(record) if takedown.prints else None
        by = takedown.says(url=url, id=fields.get("id"), sha256=fields.get("sha256"), phash=phash)
        if by is not None:
            yield record.id, by, url


def _described(path: Path, takedown: Takedown) -> Iterator[Record]:
    for id, meta in read_meta(path):
        if takedown.prints and "phash" not in meta:
            yield from read_shard(path)  # the pictures themselves have to be looked at
            return
        yield Record(id, "", b"", meta)


def refuse_taken_down(dataset: Path, web: WebParams) -> None:
    """Raise :class:`DataError` if ``dataset`` holds a record that is on ``web.takedown`` as it is now.

    Costs nothing where the dataset was made with the same list; otherwise the descriptions of all its records are read.
    """
    takedown = load_takedown(web.takedown)
    if not takedown or load_manifest(dataset).takedown == takedown.digest:
        return
    found = audit(dataset, takedown)
    if found:
        raise DataError(
            f"{dataset}: {len(found)} of its records are on the takedown list {web.takedown}, the first is "
            f"{found[0].id} in {found[0].shard} (by {found[0].by}); run the dataset stage again"
        )
