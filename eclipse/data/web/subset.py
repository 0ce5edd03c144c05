"""conf/subset/*.yaml: how a published list of URLs is read, what of it is taken, and how it is fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from eclipse.config.data import WebParams
from eclipse.config.section import Section
from eclipse.errors import ConfigError

FOLDER = Path("conf/subset")


class Columns(Section):
    """Which column of the list says what; null = the list does not say it."""

    url: str = "url"
    """Where the picture lies."""
    caption: str = "caption"
    """What it shows."""
    width: str | None = None
    """Pixels of the original picture."""
    height: str | None = None
    """Pixels of the original picture."""
    similarity: str | None = None
    """CLIP similarity of picture and caption."""
    unsafe: str | None = None
    """Probability of unsafe content."""
    watermark: str | None = None
    """Probability of a watermark."""
    license: str | None = None
    """Licence of the picture, kept with each record."""


class ListFormat(Section):
    """The form of a list of URLs."""

    format: Literal["parquet", "tsv", "jsonl", "coco"]
    """COCO is the captions JSON with ``coco_url``; its columns are known."""
    columns: Columns = Columns()
    header: tuple[str, ...] = ()
    """TSV only: names of the columns of a file whose first line does not name them."""
    keep: tuple[str, ...] = ()
    """Further columns kept with each record, as text, under ``list_<name>``."""

    @model_validator(mode="after")
    def _columns_are_there(self) -> ListFormat:
        if self.header and self.format != "tsv":
            raise ValueError("header is for format: tsv only; other formats name their columns")
        wanted = {name for name in self.columns.model_dump().values() if name} | set(self.keep)
        missing = sorted(wanted - set(self.header)) if self.header else []
        if missing:
            raise ValueError(f"columns: {', '.join(missing)}: not among header {', '.join(self.header)}")
        return self


class Fetch(Section):
    """How img2dataset fetches and keeps the pictures."""

    image_size: int | None = Field(None, ge=16)
    """Pixels of the kept picture's shorter side, where the original is larger; null = the bytes as they came."""
    quality: int = Field(95, ge=1, le=100)
    """JPEG quality of pictures that are encoded anew."""
    shard_size: int = Field(10_000, ge=2)
    """URLs in one tar shard."""
    processes: int | None = Field(None, ge=1)
    """Processes, each with one shard; null = one a core."""
    threads: int = Field(64, ge=1)
    """Connections of each process."""
    timeout: int = Field(10, ge=1)
    """Seconds without an answer after which a URL is given up."""
    deadline: int = Field(60, ge=1)
    """Seconds for one URL altogether, each redirect counted anew: some servers send a byte now and then."""
    max_bytes: int = Field(64_000_000, ge=1)
    """A larger file is given up; img2dataset keeps whole files in memory, 2 × ``threads`` of them a process."""
    max_redirects: int = Field(5, ge=0)
    """Redirects followed for one URL."""
    retries: int = Field(0, ge=0)
    """Further tries for a URL that failed, whatever the reason."""


class Subset(Section):
    """One file of conf/subset."""

    list: ListFormat
    web: WebParams = WebParams()
    fetch: Fetch = Fetch()


def load_subset(name: str) -> Subset:
    """The subset ``name`` of conf/subset, or the YAML file at the path ``name``.

    A missing file, an unknown key or a wrong value is a :class:`ConfigError` that names it.
    """
    path = Path(name) if Path(name).suffix in (".yaml", ".yml") else FOLDER / f"{name}.yaml"
    try:
        return Subset.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except FileNotFoundError:
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml"))) or "none here"
        raise ConfigError(f"subset {name}: {path}: no such file; known: {known}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    except ValidationError as error:
        lines = [f"{'.'.join(str(part) for part in item['loc'])}: {_said(item)}" for item in error.errors()]
        raise ConfigError(f"{path}: " + "; ".join(lines)) from None


def _said(item: object) -> str:
    assert isinstance(item, dict)
    return "unknown key" if item["type"] == "extra_forbidden" else str(item["msg"]).removeprefix("Value error, ")


def merged(params: WebParams, subset: WebParams) -> WebParams:
    """``params`` with everything that the subset's file sets; but of two takedown lists its own."""
    update = {name: getattr(subset, name) for name in subset.model_fields_set}
    if params.takedown is not None:
        update["takedown"] = params.takedown
    return params.model_copy(update=update)
