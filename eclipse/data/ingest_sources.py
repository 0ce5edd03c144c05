"""Readers of the four formats that captioned images come in. They check the listing's syntax, not what it lists."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from eclipse.config.data import DataParams
from eclipse.data.ingest_faults import Dropped
from eclipse.data.shards import read_members
from eclipse.errors import DataError
from eclipse.files import read_json

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Found:
    """A captioned image as it lies in its source.

    ``picture`` is the same for captions of one image file; ``id`` is unique in the source; ``fields`` are further
    metadata; ``read`` returns the image file's bytes (OSError if it cannot).
    """

    id: str
    picture: str
    caption: bytes
    read: Callable[[], bytes]
    fields: dict[str, Any] = field(default_factory=dict)


def open_source(params: DataParams, dropped: Dropped) -> Iterator[Found]:
    """The records of ``params.path`` in the format ``params.source``, in an order that depends on names only."""
    path = params.path
    if path is None or not path.exists():
        raise DataError(f"data.path: {path}: no such file or folder; point it at your captioned images")
    if params.source == "coco":
        return _coco(path, params.images, dropped)
    return {"folder": _folder, "pairs": _pairs, "webdataset": _webdataset}[params.source](path, dropped)


def _folder(path: Path, dropped: Dropped) -> Iterator[Found]:
    listing = path / "metadata.jsonl"
    if not listing.is_file():
        raise DataError(f'{listing}: no such file; write one line {{"file_name": …, "text": …}} for each image')
    for number, line in enumerate(listing.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        where = f"{listing}, line {number}"
        row = _parsed(line, where, dropped)
        if row is None:
            continue
        name, text = row.pop("file_name", None), row.pop("text", row.pop("caption", ""))
        if not isinstance(name, str) or not isinstance(text, str):
            dropped.fault("bad_metadata", f"{where}: file_name and text must both be strings")
        elif _inside(name, where, dropped):
            yield Found(f"{name}\0{text}", name, _encoded(text), (path / name).read_bytes, row)


def _pairs(path: Path, dropped: Dropped) -> Iterator[Found]:
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in (*IMAGE_SUFFIXES, ".txt") and p.is_file())
    images = [p for p in files if p.suffix.lower() != ".txt"]
    pictured = {p.with_suffix("") for p in images}
    for file in files:
        name = file.relative_to(path).as_posix()
        if file.suffix.lower() == ".txt":
            if file.with_suffix("") not in pictured:
                dropped.fault("missing_image", f"{file}: there is no image of this name beside it")
            continue
        caption = file.with_suffix(".txt")
        if caption.is_file():
            yield Found(name.rpartition(".")[0], name, caption.read_bytes(), file.read_bytes)
        else:
            dropped.fault("missing_caption", f"{file}: its caption {caption.name} is missing")


def _coco(path: Path, images: Path | None, dropped: Dropped) -> Iterator[Found]:
    if images is None or not images.is_dir():
        raise DataError(f"data.images: {images}: no such folder; give the folder of the COCO images")
    try:
        content = read_json(path)
        files = {image["id"]: image["file_name"] for image in content["images"]}
        notes = sorted((note["id"], note["image_id"], note["caption"]) for note in content["annotations"])
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: not COCO captions ({error!r}): needs images and annotations with captions") from None
    for number, image, text in notes:
        where = f"{path}, annotation {number}"
        name = files.get(image)
        if name is None:
            dropped.fault("missing_image", f"{where}: image_id {image} is not listed in images")
        elif not isinstance(text, str) or not isinstance(name, str):
            dropped.fault("bad_metadata", f"{where}: file_name and caption must both be strings")
        elif _inside(name, where, dropped):
            yield Found(f"{number}", name, _encoded(text), (images / name).read_bytes)


def _webdataset(path: Path, dropped: Dropped) -> Iterator[Found]:
    shards = sorted(path.rglob("*.tar")) if path.is_dir() else [path]
    if not shards:
        raise DataError(f"{path}: there are no .tar shards in this folder")
    for shard in shards:
        parts: dict[str, bytes] = {}
        current = ""
        try:
            for name, content in read_members(shard):
                folder, _, base = name.rpartition("/")
                stem, _, part = base.partition(".")
                key = f"{folder}/{stem}" if folder else stem
                if key != current and parts:
                    yield from _sample(shard, current, parts, dropped)
                    parts = {}
                current = key
                parts[part.lower()] = content
        except DataError as error:
            dropped.fault("unreadable_shard", str(error))
            continue
        if parts:
            yield from _sample(shard, current, parts, dropped)


def _sample(shard: Path, key: str, parts: dict[str, bytes], dropped: Dropped) -> Iterator[Found]:
    where = f"{shard}: {key}"
    image = next((parts[suffix[1:]] for suffix in IMAGE_SUFFIXES if suffix[1:] in parts), None)
    described = _parsed(parts.get("json", b"{}"), f"{where}.json", dropped)
    if described is None:
        return
    text = described.get("caption", described.get("text"))
    caption = parts.get("txt", _encoded(text) if isinstance(text, str) else None)
    if image is None:
        dropped.fault("missing_image", f"{where}: has no png, jpg or webp member")
    elif caption is None:
        dropped.fault("missing_caption", f"{where}: has no txt member and no caption in its json")
    else:
        fields = {name: value for name, value in described.items() if name not in ("caption", "text")}
        yield Found(key, f"{shard.name}/{key}", caption, partial(bytes, image), fields)


def _parsed(content: bytes, where: str, dropped: Dropped) -> dict[str, Any] | None:
    try:
        value = json.loads(content.decode())
    except UnicodeDecodeError as error:
        dropped.fault("caption_not_utf8", f"{where}: not UTF-8 ({error.reason} at byte {error.start})")
        return None
    except ValueError as error:
        dropped.fault("bad_metadata", f"{where}: not valid JSON ({error})")
        return None
    if not isinstance(value, dict):
        dropped.fault("bad_metadata", f"{where}: must be a JSON object")
        return None
    return value


def _inside(name: str, where: str, dropped: Dropped) -> bool:
    """Whether ``name`` stays below its folder, by its words alone: links out of it are common (DVC makes them)."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if parts and parts[0] != "/" and ".." not in parts and ":" not in parts[0] and "\0" not in name:
        return True
    dropped.fault("outside_folder", f"{where}: file name {name!r} leads out of the folder; write it relative to it")
    return False


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # a lone surrogate from JSON is found when this is decoded
