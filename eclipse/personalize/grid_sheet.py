"""The picture of an interpolation: its cells, and the corners' captions above and below them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_CELL, _GAP, _LINE, _LETTER, _FONT, _LINES = 96, 6, 13, 6, 10, 6


def draw_grid(cells: NDArray[np.uint8], captions: Sequence[str]) -> Image.Image:
    """``cells`` uint8 [R, C, H, W, 3] on white, with ``captions`` of its 2 or 4 corners in reading order.

    Cells smaller than 96 pixels are enlarged to be seen; larger ones stay as they were decoded.
    """
    rows, columns, height, width = cells.shape[:4]
    scale = max(1.0, _CELL / min(height, width))
    size = (round(width * scale), round(height * scale))
    total = columns * (size[0] + _GAP) + _GAP
    texts = [_wrapped(caption, (total - 3 * _GAP) // 2) for caption in captions]
    above, below = texts[:2], texts[2:]
    top = _height(above)
    canvas = Image.new("RGB", (total, top + rows * (size[1] + _GAP) + (_height(below) if below else 0)), "white")
    for row in range(rows):
        for column in range(columns):
            picture = Image.fromarray(cells[row, column])
            if scale > 1:
                picture = picture.resize(size, Image.Resampling.LANCZOS)
            canvas.paste(picture, (_GAP + column * (size[0] + _GAP), top + row * (size[1] + _GAP)))
    _write(canvas, above, _GAP)
    if below:
        _write(canvas, below, top + rows * (size[1] + _GAP))
    return canvas


def _wrapped(caption: str, width: int) -> list[str]:
    return textwrap.wrap(caption, max(8, width // _LETTER), max_lines=_LINES, placeholder=" …")


def _height(texts: Sequence[Sequence[str]]) -> int:
    return _LINE * max(len(lines) for lines in texts) + 2 * _GAP


def _write(canvas: Image.Image, texts: Sequence[Sequence[str]], y: int) -> None:
    """The left corner's caption flush left, the right corner's flush right."""
    from matplotlib import font_manager

    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), _FONT)
    draw = ImageDraw.Draw(canvas)
    places = (("la", _GAP, "left"), ("ra", canvas.width - _GAP, "right"))
    for (anchor, x, align), lines in zip(places, texts, strict=True):
        draw.multiline_text((x, y), "\n".join(lines), fill="black", font=font, spacing=2, anchor=anchor, align=align)
