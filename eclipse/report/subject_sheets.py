"""Contact sheets with subjects: their pictures, the true picture, and what each method makes of the prompt."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eclipse.data.control import canny
from eclipse.data.manifest import open_split
from eclipse.data.records import Record
from eclipse.data.subjects import subjects_of
from eclipse.errors import DataError
from eclipse.evaluate.subject_groups import EDGES, HELD_OUT
from eclipse.evaluate.summary import Row
from eclipse.report.results import read_prompts, subject_label
from eclipse.report.sheets import TRUTH, Cell, Sheet, read_images

COLUMNS = 8


def make_sheets(rows: Sequence[Row], folder: Path) -> list[tuple[str, Sheet]]:
    """(title, sheet) for one, two and three subjects and for edges, as far as pictures were kept.

    ``folder`` holds ``dataset`` and ``evaluate/<point>-<seed>``. The prompts are the split's first of their kind.
    """
    shown = {row.point: _pictures(folder, row, HELD_OUT) for row in rows}
    shown = {point: kept for point, kept in shown.items() if len(kept)}
    if not shown:
        return []
    count = min(map(len, shown.values()))
    records = list(islice(open_split(folder / "dataset", HELD_OUT), count))
    numbers = [len(subjects_of(record)) for record in records]
    scores = {row.point: _right(folder, row, HELD_OUT, records) for row in rows if row.point in shown}
    made = []
    for n in sorted(set(numbers)):
        chosen = [i for i, number in enumerate(numbers) if number == n][:COLUMNS]
        title = f"{n} subject{'s' if n > 1 else ''}"
        made.append((title, _sheet(f"subjects-{n}", records, chosen, _subject_rows(records, chosen, n), shown, scores)))
    edges = _edge_sheet(rows, folder, records, shown, scores)
    return [*made, ("Edges of the true picture as control", edges)] if edges else made


def _sheet(
    name: str,
    records: Sequence[Record],
    chosen: Sequence[int],
    above: Sequence[tuple[str, tuple[Cell, ...]]],
    pictures: dict[str, NDArray[np.uint8]],
    right: dict[str, list[bool | None]],
) -> Sheet:
    truth = (TRUTH, tuple(Cell(_decoded(records[i].image), None) for i in chosen))
    made = [(subject_label(p), tuple(Cell(kept[i], right[p][i]) for i in chosen)) for p, kept in pictures.items()]
    ids, captions = tuple(records[i].id for i in chosen), tuple(records[i].caption for i in chosen)
    return Sheet(name, ids, captions, (*above, truth, *made))


def _subject_rows(records: Sequence[Record], chosen: Sequence[int], n: int) -> list[tuple[str, tuple[Cell, ...]]]:
    found = [subjects_of(records[i]) for i in chosen]
    return [
        (f"subject {k + 1}" if n > 1 else "subject", tuple(Cell(_decoded(items[k][1]), None) for items in found))
        for k in range(n)
    ]


def _edge_sheet(
    rows: Sequence[Row],
    folder: Path,
    records: Sequence[Record],
    shown: dict[str, NDArray[np.uint8]],
    scores: dict[str, list[bool | None]],
) -> Sheet | None:
    """The first point trained with edges whose pictures were kept, with and without them."""
    with_edges = [row for row in rows if EDGES in row.splits and row.point in shown]
    if not with_edges:
        return None
    row = with_edges[0]
    kept = _pictures(folder, row, EDGES)
    chosen = list(range(min(COLUMNS, len(kept), len(records))))
    if not chosen:
        return None
    control = ("edges", tuple(Cell(canny(_decoded(records[i].image)), None) for i in chosen))
    both = {row.point: shown[row.point]}
    sheet = _sheet("edges", records, chosen, [control], both, scores)
    right = _right(folder, row, EDGES, records[: len(kept)])
    given = (f"{subject_label(row.point)} given", tuple(Cell(kept[i], right[i]) for i in chosen))
    return Sheet(sheet.name, sheet.ids, sheet.captions, (*sheet.rows, given))


def _pictures(folder: Path, row: Row, group: str) -> NDArray[np.uint8]:
    return read_images(folder / "evaluate", row.point, row.seeds[0], group.replace(":", "_"))


def _right(folder: Path, row: Row, group: str, records: Sequence[Record]) -> list[bool | None]:
    """The verdict on each of the group's first prompts, which must be ``records``."""
    table: dict[str, list[Any]] = read_prompts(folder / "evaluate", row.point, row.seeds[0], group)
    if table["id"][: len(records)] != [record.id for record in records]:
        where = f"{folder}/evaluate/{row.point}-*"
        raise DataError(f"{where}: other prompts of {group} than the dataset; evaluate the point again")
    judged = table.get("both", [np.nan] * len(records))[: len(records)]
    return [None if np.isnan(value) else bool(value == 1) for value in judged]


def _decoded(content: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
