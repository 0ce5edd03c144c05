"""What img2dataset writes, made by hand: shards with their tables, of pictures that are told apart."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from made_web import picture

from eclipse.config.data import DataParams

Sample = dict[str, Any]


def sample(number: int, content: bytes | None = None, **meta: Any) -> Sample:
    url = f"http://pictures.example/{number}.jpg"
    said = {"caption": f"picture number {number}", "url": url, "license": "CC-BY", "id": f"{number:032x}"}
    sizes = {"original_width": 1200, "original_height": 1024, "sha256": f"{number:064x}", "status": "success"}
    return {"content": picture(number) if content is None else content, "meta": {**said, **sizes, **meta}}


def write_shards(folder: Path, samples: list[Sample], size: int = 10, *, backwards: bool = False) -> DataParams:
    """Shards of ``size`` samples; ``backwards``: in another order inside, as each run of img2dataset has its own."""
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    for shard in range(-(-len(samples) // size)):
        numbered = list(enumerate(samples[shard * size : (shard + 1) * size]))
        rows = []
        with tarfile.open(folder / f"shards/{shard:05d}.tar", "w") as tar:
            for i, one in reversed(numbered) if backwards else numbered:
                meta = {**one["meta"], "key": f"{shard:05d}{i:04d}"}
                rows.append(meta)
                parts = {"jpg": one["content"], "txt": meta["caption"].encode(), "json": json.dumps(meta).encode()}
                for part, content in parts.items():
                    member = tarfile.TarInfo(f"{meta['key']}.{part}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        pq.write_table(pa.Table.from_pylist(rows), folder / f"shards/{shard:05d}.parquet")
        (folder / f"shards/{shard:05d}_stats.json").write_text("{}")
    return DataParams(source="img2dataset", path=folder, shard_size=7, evaluation_share=0.3)


def some(count: int = 40) -> list[Sample]:
    return [sample(i) for i in range(count)]
