"""Where captioned images come from, how they are split, and what of the web is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from eclipse.config.section import Section


class WorldParams(Section):
    """The mini world's dataset (``data.source: world``)."""

    train: int = Field(6000, ge=1)
    """Captioned scenes for training priors."""
    evaluation: int = Field(300, ge=1)
    """Scenes in each of the four evaluation splits (val/test × seen/held-out)."""
    seed: int = Field(0, ge=0)
    """Same seed, same bytes."""
    caption_noise: float = Field(0.0, ge=0, le=1)
    """Share of training captions exchanged for those of other scenes."""


class WebParams(Section):
    """Pictures of web scale (``data.source: img2dataset``): which are taken, and what they are checked against.

    A filter looks at what the list of URLs and img2dataset's metadata say of a picture; null = not looked at, and a
    record that does not say what a filter asks for is left out.
    """

    min_side: int | None = Field(None, ge=1)
    """Fewest pixels of the original picture's shorter side (λ-ECLIPSE: 1024)."""
    max_aspect: float | None = Field(None, ge=1)
    """Largest ratio of the original picture's longer side to its shorter one."""
    max_unsafe: float | None = Field(None, ge=0, le=1)
    """Largest probability of unsafe content (``punsafe``)."""
    max_watermark: float | None = Field(None, ge=0, le=1)
    """Largest probability of a watermark (``pwatermark``)."""
    min_similarity: float | None = Field(None, ge=-1, le=1)
    """Smallest CLIP similarity of picture and caption."""
    subset: int | None = Field(None, ge=1)
    """Records drawn of those that pass, by a stable hash of URL, caption and ``data.seed``; null = all."""
    benchmarks: tuple[Path, ...] = ()
    """Folders, tar shards or fingerprint files of evaluation sets: what equals one of their pictures is left out."""
    benchmark_distance: int = Field(4, ge=0, le=16)
    """Perceptual-hash distance up to which a picture equals one of a benchmark's."""
    takedown: Path | None = None
    """File of URLs, record ids, SHA-256 sums and perceptual hashes, one a line, that no stage may use."""
    workers: int | None = Field(None, ge=1)
    """Processes that read pictures; null = one a core. Results do not depend on it."""


class DataParams(Section):
    """Where captioned images come from and how they are split."""

    source: Literal["world", "folder", "pairs", "coco", "webdataset", "img2dataset"] = "world"
    """The mini world; an image folder with metadata.jsonl, image/.txt pairs, COCO captions JSON, or tar shards; or what
    img2dataset wrote (of any size: worked shard by shard, see :class:`WebParams`)."""
    path: Path | None = None
    """The folder (for COCO: the captions JSON) to ingest; not used by the world."""
    images: Path | None = None
    """COCO only: the folder of its images."""
    shard_size: int = Field(1000, ge=1)
    """Records in one tar shard."""
    image_size: int = Field(64, ge=16)
    """Ingested images are fitted into a square of this many pixels (aspect kept, padded with ``background``)."""
    background: tuple[int, int, int] = (255, 255, 255)
    """RGB put behind transparent images and in the padding."""
    tolerate: bool = False
    """Skip and count damaged records instead of stopping at the first."""
    dedupe_distance: int = Field(0, ge=-1, le=16)
    """Perceptual-hash distance up to which two images are the same; -1 keeps duplicates."""
    drop: dict[str, tuple[str, ...]] = Field({})
    """Metadata field → values: records that have one of them are left out."""
    hold_out: str | None = None
    """Regular expression on captions: a match is in the cell named by its groups; cells are held out of training."""
    hold_out_share: float = Field(1.0, gt=0, le=1)
    """Share of those cells held out; below 1 every factor of a held-out cell stays known, also in combination."""
    cells: Path | None = None
    """YAML file that lists held-out captions, an alternative to ``hold_out``."""
    evaluation_share: float = Field(0.1, gt=0, lt=0.9)
    """Share of the remaining caption groups used for the seen evaluation splits."""
    seed: int = Field(0, ge=0)
    """Seed of the split."""
    world: WorldParams = WorldParams()
    web: WebParams = WebParams()

    @model_validator(mode="after")
    def _path_where_needed(self) -> DataParams:
        if self.source != "world" and self.path is None:
            raise ValueError(f"data.path is needed for data.source={self.source}")
        return self
