"""One picture of a generation: what went in (subjects, edges) and what came out, side by side under the prompt."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Labelled = tuple[str, NDArray[np.uint8]]
"""What stands below a picture, and the picture, uint8 [H, W, 3]."""

_CELL, _GAP, _LINE, _LETTER, _FONT = 128, 8, 14, 6.2, 10
_COLUMNS = 8
_NARROWEST = 3  # columns that the prompt has at least


def draw_sheet(prompt: str, inputs: Sequence[Labelled], results: Sequence[Labelled]) -> Image.Image:
    """Inputs and then results in rows of up to eight, a rule between the two, the prompt above; on white.

    Pictures smaller than 128 px are enlarged, larger ones fitted.
    """
    import matplotlib

    # Its own font by path: searching for it would look through all fonts of the machine first.
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), _FONT)
    cells = [*inputs, *results]
    columns = min(len(cells), _COLUMNS)
    width = _GAP + max(columns, _NARROWEST) * (_CELL + _GAP)
    lines = textwrap.wrap(prompt, int((width - 2 * _GAP) / _LETTER))
    top = 2 * _GAP + _LINE * len(lines)
    pitch = _CELL + _LINE + _GAP
    canvas = Image.new("RGB", (width, top + pitch * -(-len(cells) // columns)), "white")
    draw = ImageDraw.Draw(canvas)
    draw.multiline_text((_GAP, _GAP), "\n".join(lines), fill="black", font=font, spacing=2)
    for index, (label, image) in enumerate(cells):
        x, y = _GAP + index % columns * (_CELL + _GAP), top + index // columns * pitch
        canvas.paste(Image.fromarray(image).resize((_CELL, _CELL), Image.Resampling.LANCZOS), (x, y))
        draw.text((x, y + _CELL + 1), _short(label), fill="black", font=font)
        if 0 < index == len(inputs):
            draw.line([(x - _GAP // 2, y), (x - _GAP // 2, y + _CELL)], fill="black")
    return canvas


def _short(label: str) -> str:
    most = int(_CELL / _LETTER)
    return label if len(label) <= most else label[: most - 1] + "…"
