"""Reads lists of URLs larger than memory, a batch of rows at a time, in whichever form they are published."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.dataset as pds

from eclipse.data.web.filters import NUMBERS
from eclipse.data.web.subset import ListFormat
from eclipse.errors import DataError
from eclipse.files import read_json

_SUFFIXES = {"parquet": (".parquet",), "tsv": (".tsv", ".tsv.gz"), "jsonl": (".jsonl", ".jsonl.gz"), "coco": (".json",)}
_BATCH = 1 << 16


def list_files(path: Path, form: ListFormat) -> list[Path]:
    """The list's files in the order of their names; a folder that has none of the format is a :class:`DataError`."""
    if path.is_file():
        return [path]
    suffixes = _SUFFIXES[form.format]
    files = sorted(file for file in path.rglob("*") if file.name.endswith(suffixes)) if path.is_dir() else []
    if not files:
        raise DataError(f"{path}: no such list; give a {suffixes[0]} file, or a folder of them")
    return files


def scan(path: Path, form: ListFormat, dropped: Counter[str] | None = None) -> Iterator[pa.Table]:
    """Yield the list's rows in batches, with columns of our own names; lines of a TSV that are no rows are counted.

    ``url`` and ``caption`` binary (bytes as they are), ``more_captions`` list of binary (null but for COCO, which has
    several captions of one picture), the names of :data:`NUMBERS` float64, ``license`` and ``list_<name>`` of the kept
    columns as text. What a list does not say is null.
    """
    for file in list_files(path, form):
        yield from (
            _coco(file) if form.format == "coco" else _tabular(file, form, Counter() if dropped is None else dropped)
        )


def _tabular(file: Path, form: ListFormat, dropped: Counter[str]) -> Iterator[pa.Table]:
    before = dropped["bad_row"]
    try:
        opened = pds.dataset(file, format=_reader(form, dropped))
        names = set(opened.schema.names)
        dropped["bad_row"] = before  # the first lines were read for their names, and are read again
        columns = form.columns
        missing = sorted({columns.url, columns.caption} - names)
        if missing:
            raise DataError(
                f"{file}: has no column {missing[0]!r}, but {sorted(names)}; name it in the subset's columns"
            )
        wanted = {name for name in (*columns.model_dump().values(), *form.keep) if name in names}
        for batch in opened.scanner(columns=sorted(wanted), batch_size=_BATCH, batch_readahead=2).to_batches():
            yield _named(batch, form)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: cannot be read as {form.format} ({' '.join(str(error).split())})") from None


def _reader(form: ListFormat, dropped: Counter[str]) -> Any:
    def skip(row: Any) -> str:
        dropped["bad_row"] += 1
        return "skip"

    if form.format != "tsv":
        return pds.JsonFileFormat() if form.format == "jsonl" else pds.ParquetFileFormat()
    columns = [name for name in (*form.columns.model_dump().values(), *form.keep) if name]
    return pds.CsvFileFormat(  # bytes, as text would have to be UTF-8 all over; no quotes: captions begin with them
        parse_options=pcsv.ParseOptions(delimiter="\t", quote_char=False, invalid_row_handler=skip),
        read_options=pcsv.ReadOptions(column_names=list(form.header) or None, block_size=1 << 24),
        convert_options=pcsv.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.binary()), strings_can_be_null=False, null_values=[]
        ),
    )


def _named(batch: pa.RecordBatch, form: ListFormat) -> pa.Table:
    rows = len(batch)
    given = form.columns.model_dump()

    def column(name: str | None, kind: Any) -> Any:
        if name is None or name not in batch.schema.names:
            return pa.nulls(rows, kind)
        return _as(batch.column(name), kind)

    made = {name: column(given[name], pa.binary()) for name in ("url", "caption")}
    made["more_captions"] = pa.nulls(rows, pa.list_(pa.binary()))
    made |= {name: column(given[name], pa.float64()) for name in NUMBERS}
    made["license"] = column(given["license"], pa.string())
    made |= {f"list_{name}": column(name, pa.string()) for name in form.keep}
    return pa.table(made)


def _as(values: Any, kind: Any) -> Any:
    """``values`` cast to ``kind``, value by value where the whole column cannot be."""
    try:
        if kind == pa.binary() and not pa.types.is_binary(values.type):
            values = values.cast(pa.string())
        return values.cast(kind)
    except pa.ArrowException:
        return pa.array([_one(value, kind) for value in values.to_pylist()], kind)


def _one(value: Any, kind: Any) -> Any:
    if value is None:
        return None
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    if kind == pa.binary():
        return text.encode()
    if kind == pa.string():
        return text
    try:
        return float(text)
    except ValueError:
        return None


def _coco(file: Path) -> Iterator[pa.Table]:
    """COCO's captions JSON, one row for each picture: a URL is fetched once, whatever the number of its captions."""
    content = read_json(file)
    try:
        licences = {one["id"]: one.get("url") or one["name"] for one in content.get("licenses", [])}
        captions: dict[Any, list[tuple[int, str]]] = defaultdict(list)
        for note in content["annotations"]:
            captions[note["image_id"]].append((note["id"], note["caption"]))
        images = [image for image in content["images"] if image["id"] in captions]
        for start in range(0, len(images), _BATCH):
            yield _coco_table(images[start : start + _BATCH], captions, licences)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file}: not COCO captions ({error!r}): needs images with coco_url, and annotations with captions"
        ) from None


def _coco_table(images: list[Any], captions: dict[Any, list[tuple[int, str]]], licences: dict[Any, str]) -> pa.Table:
    texts = [[text.encode("utf-8", "replace") for _, text in sorted(captions[image["id"]])] for image in images]
    blank = pa.nulls(len(images), pa.float64())
    return pa.table(
        {
            "url": pa.array([image["coco_url"].encode() for image in images], pa.binary()),
            "caption": pa.array([one[0] for one in texts], pa.binary()),
            "more_captions": pa.array([one[1:] for one in texts], pa.list_(pa.binary())),
            "width": pa.array([image.get("width") for image in images], pa.float64()),
            "height": pa.array([image.get("height") for image in images], pa.float64()),
            "similarity": blank,
            "unsafe": blank,
            "watermark": blank,
            "license": pa.array([licences.get(image.get("license")) for image in images], pa.string()),
        }
    )
