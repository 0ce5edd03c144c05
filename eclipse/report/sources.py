"""What the page shows besides evaluations: training curves, lineage, the selection and the study's result."""

from __future__ import annotations

import base64
import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eclipse.errors import DataError
from eclipse.evaluate.summary import order
from eclipse.files import read_json

_PICTURES = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg"}


@dataclass(frozen=True)
class Training:
    """One trained prior: ``lineage`` is its training.json, ``curves`` its columns of equal length (missing = NaN)."""

    point: str
    seed: int
    lineage: dict[str, Any]
    curves: dict[str, list[float]]


@dataclass(frozen=True)
class Study:
    """A result table of strings, remarks (heading, text) and figures (name, data URI)."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    remarks: tuple[tuple[str, str], ...]
    figures: tuple[tuple[str, str], ...]


def read_trainings(priors: Path) -> list[Training]:
    """Every ``priors/<point>-<seed>``, in table order."""
    folders = sorted(folder for folder in priors.glob("*") if (folder / "training.json").exists())
    found = []
    for folder in folders:
        point, _, seed = folder.name.rpartition("-")
        if not (point and seed.isdigit()):
            raise DataError(f"{folder}: not named <point>-<seed>; remove it or run its train stage again")
        found.append(
            Training(point, int(seed), read_json(folder / "training.json"), read_curves(folder / "curves.csv"))
        )
    return sorted(found, key=lambda t: (order(t.point), t.seed))


def read_curves(path: Path) -> dict[str, list[float]]:
    """Columns of a training curve; an empty cell is NaN, a row that is no row of numbers a :class:`DataError`."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {name: [_number(row[name]) for row in rows] for name in (rows[0] if rows else {})}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run its train stage (dvc repro)") from None
    except (ValueError, TypeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a table of numbers ({error}); run its train stage again") from None


def read_studies(folder: Path) -> list[Study]:
    """The studies in ``folder`` and directly below it, those that have been run."""
    folders = [folder, *sorted(path for path in folder.glob("*") if path.is_dir())]
    return [study for path in folders if (study := read_study(path)) is not None]


def read_study(folder: Path) -> Study | None:
    """The study's ``results.json`` and ``figures/``; None where it has not been run.

    ``results.json`` holds ``rows`` (list of objects, or of lists under ``columns``) and perhaps a ``title``; further
    strings beside them are remarks.
    """
    path = folder / "results.json"
    if not path.exists():
        return None
    value = read_json(path)
    value = {"rows": value} if isinstance(value, list) else value
    rows = value.get("rows", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict | list) for row in rows):
        raise DataError(f"{path}: field rows must be a list of objects or of lists; run the study again")
    columns = value.get("columns") or list(dict.fromkeys(key for row in rows for key in row if isinstance(row, dict)))
    cells = tuple(
        tuple(_text(row.get(c) if isinstance(row, dict) else row[i]) for i, c in enumerate(columns)) for row in rows
    )
    title = str(value.pop("title", "λ, the amount of data and caption noise"))
    remarks = tuple((key.replace("_", " "), text) for key, text in value.items() if isinstance(text, str))
    pictures = sorted(p for p in (folder / "figures").glob("*") if p.suffix in _PICTURES)
    return Study(
        title, tuple(columns), cells, remarks, tuple((p.stem.replace("_", " "), data_uri(p)) for p in pictures)
    )


def data_uri(path: Path) -> str:
    """A picture file as ``data:`` URI."""
    return inline(path.read_bytes(), _PICTURES[path.suffix])


def inline(content: bytes, kind: str = "image/png") -> str:
    """Bytes as ``data:`` URI of media type ``kind``."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _number(text: str) -> float:
    return float(text) if text.strip() else math.nan


def _text(value: Any) -> str:
    if isinstance(value, dict) and {"value", "low", "high"} <= value.keys():
        return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else str(value)
