"""The control picture of λ-ECLIPSE: edges (arXiv 2402.05195, §3.2)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def canny(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Upstream's control picture: ``cv2.Canny(grey, 100, 200)`` of a uint8 (H, W, 3) as RGB, uint8 (H, W, 3)."""
    edges = cv2.Canny(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 100, 200)
    return np.repeat(edges[..., None], 3, axis=2)
