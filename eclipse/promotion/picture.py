"""The review sheet as one picture: the decision, the figures, and the pairs."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from eclipse.promotion.gate import Verdict
from eclipse.promotion.words import p_words, signed

_WIDTH, _EDGE, _LINE = 1180, 28, 21
_CELL, _GAP, _COLUMNS = 128, 6, 4
_INK, _SOFT, _RULE, _PANEL = "#1b1f24", "#59636e", "#d5dbe1", "#f5f7f9"
_COLOURS = {"superior": "#1a7f37", "non-inferior": "#1a7f37", "inferior": "#b3261e", "inconclusive": "#8a6100"}
_HEADS = ("metric", "prompts", "", "", "difference", "", "margin", "MDE", "p", "verdict")
_STOPS = (28, 250, 330, 425, 590, 612, 822, 890, 965, 985)  # right edges of figures, left ones of words and the plot
_WORDS = (0, 5, 9)
_PLOT = 150
_LETTERS = 30  # of a caption's line below a pair


class _Page:
    """A white canvas that is written from top to bottom."""

    def __init__(self, height: int) -> None:
        self.image = Image.new("RGB", (_WIDTH, height), "white")
        self.draw = ImageDraw.Draw(self.image)
        self.y = _EDGE

    def text(
        self, x: float, words: str, *, size: int = 13, fill: str = _INK, bold: bool = False, right: bool = False
    ) -> None:
        self.draw.text((x, self.y), words, fill=fill, font=_font(size, bold), anchor="ra" if right else "la")

    def paragraph(self, words: str, *, fill: str = _INK, letters: int = 165) -> None:
        for line in textwrap.wrap(words, letters):
            self.text(_EDGE, line, fill=fill)
            self.y += _LINE - 2
        self.y += 4

    def rule(self) -> None:
        self.draw.line([(_EDGE, self.y), (_WIDTH - _EDGE, self.y)], fill=_RULE)


def draw_picture(context: dict[str, Any], pairs: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> Image.Image:
    """The core of the sheet, ``_WIDTH`` px wide, from the page's context and the pictures of its ``pairs``."""
    sheet = _Page(2000 + 60 * len(pairs) + (len(pairs) // _COLUMNS + 1) * (_CELL + 5 * _LINE))
    _header(sheet, context)
    _figures(sheet, context["rows"], tuple(side["role"] for side in context["sides"]))
    _pairs(sheet, context, pairs)
    return sheet.image.crop((0, 0, _WIDTH, sheet.y + _EDGE // 2))


def _header(sheet: _Page, context: dict[str, Any]) -> None:
    candidate, champion = context["sides"]
    sheet.text(_EDGE, context["name"], size=22, bold=True)
    sheet.y += 34
    for side in (candidate, champion):
        known = f" · prior {side['prior_hash'][:12]}" if side["prior_hash"] else ""
        sheet.text(_EDGE, f"{side['role']}: {side['version']}, {side['label']}{known}", size=14)
        sheet.y += _LINE
    decision = context["decision"]
    sheet.y += 8
    words = "PASSES THE RULE" if decision.passed else "BELOW THE RULE"
    colour = _COLOURS["superior"] if decision.passed else _COLOURS["inferior"]
    width = sheet.draw.textlength(words, font=_font(15, True))
    sheet.draw.rounded_rectangle([(_EDGE, sheet.y), (_EDGE + width + 24, sheet.y + 28)], 6, fill=colour)
    sheet.y += 5
    sheet.text(_EDGE + 12, words, size=15, fill="white", bold=True)
    sheet.y += 34
    for reason in decision.reasons:
        sheet.paragraph(reason)
    sheet.paragraph(f"Rule: {decision.rule}", fill=_SOFT)
    for caveat in context["caveats"]:
        sheet.paragraph(caveat, fill=_SOFT)
    sheet.y += 8


def _figures(sheet: _Page, rows: Sequence[dict[str, Any]], roles: tuple[str, ...]) -> None:
    sheet.draw.rectangle([(_EDGE, sheet.y - 4), (_WIDTH - _EDGE, sheet.y + _LINE - 2)], fill=_PANEL)
    _cells(sheet, (*_HEADS[:2], *roles, *_HEADS[4:]), _SOFT)
    for row in rows:
        one: Verdict = row["verdict"]
        told = row["role"] != "split"
        cells = (
            f"    {row['title']}" if not told else row["title"],
            str(one.n),
            f"{one.candidate:.3f}",
            f"{one.champion:.3f}",
            f"{signed(one.difference, 3)} [{signed(one.low, 3)}, {signed(one.high, 3)}]",
            "",
            f"{one.margin:g}",
            f"{one.mde:.3f}",
            p_words(one.p) if told else "",
            one.verdict if told else "",
        )
        _interval(sheet, row["at"], _COLOURS[one.verdict] if told else _SOFT)
        _cells(sheet, cells, _INK if told else _SOFT, verdict=_COLOURS[one.verdict], bold=row["role"] == "deciding")
    sheet.y += 4
    sheet.paragraph(
        "Difference: left − right figure, with one-sided bounds of the paired bootstrap; dashed: −margin. MDE: the "
        "smallest difference found with 80 % power. p: worse by the margin or more (categories: Holm-adjusted).",
        fill=_SOFT,
    )
    sheet.y += 10


def _cells(sheet: _Page, cells: Sequence[str], fill: str, *, verdict: str = _SOFT, bold: bool = False) -> None:
    for column, words in enumerate(cells):
        colour = verdict if column == len(cells) - 1 else fill
        strong = bold and column in (0, len(cells) - 1)
        sheet.text(_STOPS[column], words, size=12, fill=colour, bold=strong, right=column not in _WORDS)
    sheet.y += _LINE
    sheet.rule()
    sheet.y += 4


def _interval(sheet: _Page, at: dict[str, float], colour: str) -> None:
    left, middle = _STOPS[5], sheet.y + 8

    def x(name: str) -> float:
        return left + at[name] / 100 * _PLOT

    sheet.draw.line([(left + _PLOT / 2, middle - 9), (left + _PLOT / 2, middle + 9)], fill=_RULE)
    for y in range(int(middle) - 9, int(middle) + 9, 5):
        sheet.draw.line([(x("margin"), y), (x("margin"), y + 2)], fill=_SOFT)
    sheet.draw.line([(x("low"), middle), (x("high"), middle)], fill=colour, width=2)
    sheet.draw.ellipse([(x("difference") - 3, middle - 3), (x("difference") + 3, middle + 3)], fill=colour)


def _pairs(sheet: _Page, context: dict[str, Any], pairs: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> None:
    blind, roles = context["nonce"] is not None, [side["role"] for side in context["sides"]]
    sheet.text(
        _EDGE,
        "Side by side: A left, B right" if blind else f"Side by side: {' left, '.join(roles)} right",
        size=16,
        bold=True,
    )
    sheet.y += 28
    sheet.paragraph(context["choice"], fill=_SOFT)
    pitch, top = (_WIDTH - 2 * _EDGE) // _COLUMNS, sheet.y
    for start in range(0, len(pairs), _COLUMNS):
        deepest = 0
        for column, pair in enumerate(pairs[start : start + _COLUMNS]):
            x = _EDGE + column * pitch
            prompt = context["pairs"][start + column]
            for side, (image, cell) in enumerate(zip(pair, prompt["cells"], strict=True)):
                _one(sheet, x + side * (_CELL + _GAP), top, image, cell["right"])
            lines = textwrap.wrap(prompt["caption"], _LETTERS + 6)[:3]
            sheet.draw.multiline_text((x, top + _CELL + 9), "\n".join(lines), fill=_INK, font=_font(11), spacing=3)
            deepest = max(deepest, len(lines))
        top += _CELL + 16 + deepest * 16 + 8
    sheet.y = top


def _one(sheet: _Page, x: int, y: int, image: NDArray[np.uint8], right: bool | None) -> None:
    sheet.image.paste(Image.fromarray(image).resize((_CELL, _CELL), Image.Resampling.LANCZOS), (x, y))
    if right is not None:
        colour = _COLOURS["superior"] if right else _COLOURS["inferior"]
        sheet.draw.rectangle([(x, y + _CELL), (x + _CELL - 1, y + _CELL + 3)], fill=colour)


def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    # Its own font by path: searching for it would look through all fonts of the machine first.
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), size)
