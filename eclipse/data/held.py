"""Records as the split looks at them, with the cells that captions are held out by."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import yaml

from eclipse.config.data import DataParams
from eclipse.data.split import Cell, CellPattern, Item, choose_held_out, normalise
from eclipse.errors import ConfigError


def items_of(captioned: Iterable[tuple[str, int]], params: DataParams) -> tuple[list[Item], set[Cell]]:
    """The items of (caption, number of its picture) pairs, and the cells that are held out.

    Raises :class:`ConfigError` for a ``hold_out`` that nothing matches, or ``cells`` that cannot be read.
    """
    pattern = CellPattern(params.hold_out) if params.hold_out else None
    listed: set[str] = listed_captions(params.cells) if params.cells else set()
    items: list[Item] = []
    matched: set[Cell] = set()
    named: set[Cell] = set()
    for caption, picture in captioned:
        cell: Cell | None = None
        if listed and normalise(caption) in listed:
            cell = (normalise(caption),)
            named.add(cell)
        elif pattern is not None:
            cell = pattern.cell(caption)
            matched.update([cell] if cell is not None else [])
        items.append(Item(caption, picture, cell))
    if params.hold_out and not matched:
        raise ConfigError(f"data.hold_out: no caption in {params.path} matches {params.hold_out!r}")
    return items, named | choose_held_out(matched, params.hold_out_share, params.seed)


def listed_captions(path: Path) -> set[str]:
    """The captions, normalised, of a ``data.cells`` file; :class:`ConfigError` where it is no list of captions."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"data.cells: {path}: cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(value, list) or not all(isinstance(caption, str) for caption in value):
        raise ConfigError(f"data.cells: {path}: must be a YAML list of captions")
    return {normalise(caption) for caption in value}
