"""Pictures of any size to a CLIP's square: the one resize of this project, the same in every process.

It runs in float32 with torch's antialiased interpolation and ends in whole grey levels, as PIL does, which CLIPs were
trained with. So a picture fitted elsewhere, as uint8, is the picture that the encoder itself would have made of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Fit:
    """The square of ``size`` pixels that a CLIP looks at.

    ``squash`` changes the aspect; otherwise the shorter side is fitted and the middle is cut out. ``interpolation`` is
    bicubic or bilinear.
    """

    size: int
    squash: bool
    interpolation: str

    def __call__(self, x: Tensor) -> Tensor:
        """Float32 [N, 3, H, W] of grey levels to [N, 3, S, S], whole levels; what has the size is returned as it is."""
        height, width = x.shape[-2:]
        size = self.size
        if (height, width) == (size, size):
            return x
        target = (size, size)
        if not self.squash:
            scale = size / min(height, width)
            target = (max(size, int(height * scale)), max(size, int(width * scale)))
        x = F.interpolate(x, target, mode=self.interpolation, antialias=True, align_corners=False)
        top, left = round((target[0] - size) / 2), round((target[1] - size) / 2)
        return x[..., top : top + size, left : left + size].round().clamp(0, 255)

    def picture(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """One picture uint8 [H, W, 3] to uint8 [S, S, 3]."""
        if image.shape[:2] == (self.size, self.size):
            return image
        # A decoded file may be read-only memory, which torch would warn of.
        x = torch.from_numpy(np.require(image, requirements="W")).permute(2, 0, 1)[None].float()
        return self(x)[0].permute(1, 2, 0).to(torch.uint8).numpy()
