"""Small captioned images in each of the formats that can be ingested."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from eclipse.config.data import DataParams

Captioned = list[tuple[str, bytes, str]]


def png(seed: int, size: tuple[int, int] = (24, 20)) -> bytes:
    """A PNG of a smooth random picture; other seeds give pictures that no hash confuses."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse, "RGB").resize(size, Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


def write_folder(path: Path, captioned: Captioned, **fields: str) -> DataParams:
    path.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, content, text in captioned:
        (path / name).write_bytes(content)
        rows.append(json.dumps({"file_name": name, "text": text, **fields}))
    (path / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    return DataParams(source="folder", path=path, image_size=16)


def write_pairs(path: Path, captioned: Captioned) -> DataParams:
    (path / "deep").mkdir(parents=True)
    for name, content, text in captioned:
        (path / "deep" / name).write_bytes(content)
        (path / "deep" / name).with_suffix(".txt").write_text(text + "\n")
    return DataParams(source="pairs", path=path, image_size=16)


def write_coco(path: Path, captioned: Captioned) -> DataParams:
    (path / "images").mkdir(parents=True)
    images, notes = [], []
    for number, (name, content, text) in enumerate(captioned):
        (path / "images" / name).write_bytes(content)
        images.append({"id": number, "file_name": name})
        notes.append({"id": 100 + number, "image_id": number, "caption": text})
    (path / "captions.json").write_text(json.dumps({"images": images, "annotations": notes}))
    return DataParams(source="coco", path=path / "captions.json", images=path / "images", image_size=16)


def write_webdataset(path: Path, captioned: Captioned) -> DataParams:
    path.mkdir(parents=True)
    with tarfile.open(path / "shard-0.tar", "w") as tar:
        for name, content, text in captioned:
            for member, value in ((name, content), (name.replace(".png", ".txt"), text.encode())):
                info = tarfile.TarInfo(member)
                info.size = len(value)
                tar.addfile(info, io.BytesIO(value))
    return DataParams(source="webdataset", path=path, image_size=16)


WRITERS: dict[str, Callable[[Path, Captioned], DataParams]] = {
    "folder": write_folder,
    "pairs": write_pairs,
    "coco": write_coco,
    "webdataset": write_webdataset,
}


def some(count: int = 20) -> Captioned:
    """Name, PNG bytes and caption of ``count`` distinct pictures."""
    return [(f"{i:02d}.png", png(i), f"picture number {i}") for i in range(count)]
