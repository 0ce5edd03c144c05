"""Pictures as people send them."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image, ImageDraw


def subject_png(colour: str = "red", size: int = 64, kind: str = "PNG") -> bytes:
    """A disc on white."""
    image = Image.new("RGB", (size, size), "white")
    ImageDraw.Draw(image).ellipse((size // 4, size // 4, 3 * size // 4, 3 * size // 4), fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def edges_png(size: int = 64) -> bytes:
    """White lines on black."""
    image = np.zeros((size, size, 3), np.uint8)
    image[size // 4, size // 4 : 3 * size // 4] = image[size // 4 : 3 * size // 4, size // 4] = 255
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def pixels(content: str | bytes) -> np.ndarray:
    """uint8 [H, W, 3] of a PNG, in base64 or as bytes."""
    content = base64.b64decode(content) if isinstance(content, str) else content
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
