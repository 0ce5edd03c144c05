"""Contact sheets: the same captions and the same decoder seeds, one row for each way to a picture."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from eclipse.data.manifest import open_split
from eclipse.errors import DataError
from eclipse.evaluate.summary import Row
from eclipse.report.results import label, read_prompts
from eclipse.report.sources import inline

TRUTH = "true picture"
_CELL, _GAP, _MARGIN, _LINE = 96, 6, 150, 13
_PAGE = 384  # pixels of a picture's longer side on a page, four times what is shown at first sight


@dataclass(frozen=True)
class Cell:
    """One picture (uint8 [H, W, 3], or None where none was decoded) and whether its composition was judged right."""

    image: NDArray[np.uint8] | None
    right: bool | None


@dataclass(frozen=True)
class Sheet:
    """``rows[i]`` is (name, cells), a cell for each of ``captions``; ``name`` is that of the sheet's file."""

    name: str
    ids: tuple[str, ...]
    captions: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def read_images(details: Path, point: str, seed: int, split: str) -> NDArray[np.uint8]:
    """Pictures kept by the evaluation: uint8 [K, H, W, 3], those of the split's first K prompts; K = 0 if none."""
    path = details / f"{point}-{seed}" / "images" / f"{split}.npy"
    if not path.exists():
        return np.zeros((0, 1, 1, 3), np.uint8)
    try:
        images = np.load(path, allow_pickle=False)
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: unreadable ({error}); run its evaluate stage again") from None
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise DataError(
            f"{path}: {images.dtype} {images.shape} is not uint8 [K, H, W, 3]; run its evaluate stage again"
        )
    return images


def true_pictures(dataset: Path, split: str, ids: Sequence[str]) -> dict[str, NDArray[np.uint8]]:
    """The dataset's own pictures of ``ids``, uint8 [H, W, 3]; an id that the split does not hold is an error."""
    wanted, found = set(ids), {}
    for record in open_split(dataset, split):
        if record.id in wanted:
            found[record.id] = np.asarray(Image.open(io.BytesIO(record.image)).convert("RGB"))
        if len(found) == len(wanted):
            return found
    raise DataError(
        f"{dataset}: split {split} lacks {min(wanted - set(found))}; evaluation and dataset do not belong together"
    )


def make_sheet(rows: Sequence[Row], details: Path, dataset: Path, split: str, *, columns: int) -> Sheet | None:
    """The sheet of ``split``'s first ``columns`` prompts (first seeds); None without pictures."""
    kept = {row.point: read_images(details, row.point, row.seeds[0], split) for row in rows}
    shown = [row for row in rows if len(kept[row.point])]
    if not shown:
        return None
    tables = {row.point: read_prompts(details, row.point, row.seeds[0], split) for row in shown}
    first = tables[shown[0].point]
    count = min(columns, len(kept[shown[0].point]))
    ids = tuple(first["id"][:count])
    for point, table in tables.items():
        if tuple(table["id"][:count]) != ids:
            raise DataError(
                f"{details}/{point}-*: other prompts of {split} than {shown[0].point}; evaluate all points again"
            )
    truth = true_pictures(dataset, split, ids)
    cells = [(TRUTH, tuple(Cell(truth[i], None) for i in ids))]
    cells += [(label(p), tuple(_cell(kept[p], tables[p], i) for i in range(count))) for p in tables]
    return Sheet(split, ids, tuple(first["caption"][:count]), tuple(cells))


def _cell(images: NDArray[np.uint8], table: Mapping[str, Sequence[Any]], index: int) -> Cell:
    judged = table.get("composition", [np.nan] * (index + 1))[index]
    return Cell(images[index] if index < len(images) else None, None if np.isnan(judged) else bool(judged == 1))


def draw_sheet(sheet: Sheet) -> Image.Image:
    """The sheet as one picture on white, captions above the columns, names before the rows."""
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 10)
    wrapped = [textwrap.wrap(caption, 16)[:6] for caption in sheet.captions]
    top = _LINE * max(len(lines) for lines in wrapped) + 2 * _GAP
    size = (_MARGIN + len(wrapped) * (_CELL + _GAP), top + len(sheet.rows) * (_CELL + _GAP))
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for column, lines in enumerate(wrapped):
        draw.multiline_text(
            (_MARGIN + column * (_CELL + _GAP), _GAP), "\n".join(lines), fill="black", font=font, spacing=2
        )
    for line, (name, cells) in enumerate(sheet.rows):
        y = top + line * (_CELL + _GAP)
        text = "\n".join(textwrap.wrap(name, 22))
        draw.multiline_text((_GAP, y + _CELL // 2), text, fill="black", font=font, spacing=2, anchor="lm")
        for column, cell in enumerate(cells):
            if cell.image is not None:
                canvas.paste(enlarged(cell.image, _CELL), (_MARGIN + column * (_CELL + _GAP), y))
    return canvas


def enlarged(image: NDArray[np.uint8], size: int) -> Image.Image:
    """``image`` fitted to ``size`` × ``size`` for looking at; what is no square loses its ends."""
    return ImageOps.fit(Image.fromarray(image), (size, size), Image.Resampling.LANCZOS)


def page_cells(sheet: Sheet, title: str) -> dict[str, Any]:
    """A contact sheet for the page, pictures inlined."""
    rows = [
        {
            "name": name,
            "cells": [{"uri": inline(png(c.image)) if c.image is not None else None, "right": c.right} for c in cells],
        }
        for name, cells in sheet.rows
    ]
    return {"title": title, "captions": sheet.captions, "rows": rows}


def png(image: NDArray[np.uint8]) -> bytes:
    """PNG bytes of a uint8 [H, W, 3] picture, reduced where it is larger than the page shows it."""
    buffer = io.BytesIO()
    picture = Image.fromarray(image)
    picture.thumbnail((_PAGE, _PAGE), Image.Resampling.LANCZOS)
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
