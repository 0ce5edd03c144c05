"""The oracle: a small classifier that reads every attribute of a 64 × 64 scene, real or decoded.

It is the mini world's stand-in for the VQA and detection models of T2I-CompBench, and, unlike them, is measured to
be right on at least 99 % of real pictures in each of its answers (``models/mini/oracle/README.md``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from eclipse.errors import CheckpointError
from eclipse.files import atomic_folder
from eclipse.world.scene import BACKGROUNDS, COLOURS, LAYOUTS, PAIRS, SHAPES, TEXTURES, Scene

HEADS = {
    "layout": LAYOUTS,
    "background": BACKGROUNDS,
    **{
        f"{name}_{slot}": words
        for slot in (0, 1)
        for name, words in (("colour", COLOURS), ("shape", SHAPES), ("texture", TEXTURES))
    },
}
FEATURES = 128


@dataclass(frozen=True)
class Reading:
    """What the oracle sees: one word (str array of shape (N,)) per head; slot 1 means something in pairs only."""

    words: dict[str, NDArray[np.str_]]

    def __len__(self) -> int:
        return len(self.words["layout"])

    def one(self, index: int) -> dict[str, str]:
        """The words of one picture, by head."""
        return {head: str(words[index]) for head, words in self.words.items()}


class OracleNet(nn.Module):
    """Convolutions down to 8 × 8, then one linear layer per head over a 128-d feature (pixels in [0, 1])."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.width = width

        def block(a: int, b: int, stride: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True))

        w = width
        self.body = nn.Sequential(
            block(3, w, 1), nn.MaxPool2d(2), block(w, 2 * w, 1), nn.MaxPool2d(2),
            block(2 * w, 2 * w, 1), block(2 * w, 3 * w, 2), block(3 * w, 3 * w, 1), nn.AvgPool2d(2),
        )  # fmt: skip
        self.feature = nn.Sequential(nn.Flatten(), nn.Linear(3 * w * 16, FEATURES), nn.BatchNorm1d(FEATURES), nn.ReLU())
        self.heads = nn.ModuleDict({name: nn.Linear(FEATURES, len(words)) for name, words in HEADS.items()})

    def forward(self, pixels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Logits (N, classes) by head and features (N, 128) of ``pixels`` (N, 3, 64, 64)."""
        features = self.feature(self.body(pixels * 2 - 1))
        return {name: head(features) for name, head in self.heads.items()}, features


class Oracle:
    """A loaded, frozen :class:`OracleNet`."""

    def __init__(self, net: OracleNet) -> None:
        self.net = net.eval().requires_grad_(False)

    @classmethod
    def load(cls, folder: Path) -> Oracle:
        """Read ``config.json`` and ``model.safetensors`` (fp16) from ``folder``."""
        try:
            net = OracleNet(**json.loads((folder / "config.json").read_text()))
            net.load_state_dict(load_file(folder / "model.safetensors"))
        except (OSError, RuntimeError, ValueError, TypeError, SafetensorError) as error:
            raise CheckpointError(f"{folder}: not an oracle ({error}); check out models/ again") from None
        return cls(net.float())

    @torch.no_grad()
    def _forward(self, images: NDArray[np.uint8], batch_size: int = 128) -> tuple[dict[str, Tensor], Tensor]:
        outputs, features = [], []
        for i in range(0, len(images), batch_size):
            logits, feature = self.net(pixels01(images[i : i + batch_size]))
            outputs.append(logits)
            features.append(feature)
        return {name: torch.cat([o[name] for o in outputs]) for name in HEADS}, torch.cat(features)

    def read(self, images: NDArray[np.uint8]) -> Reading:
        """The most likely word of each head for uint8 (N, 64, 64, 3) pictures."""
        logits, _ = self._forward(images)
        return Reading({name: np.array(words)[logits[name].argmax(1).numpy()] for name, words in HEADS.items()})

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32 (N, 128) features, for a Fréchet distance."""
        return self._forward(images)[1].numpy()

    def probabilities(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Softmax per head, float32 (N, classes): the confidences behind concept deviations (CCD)."""
        return {name: F.softmax(x, dim=1).numpy() for name, x in self._forward(images)[0].items()}


def judge(scene: Scene, seen: dict[str, str]) -> dict[str, float]:
    """Score one reading against what the caption asked for; each value in [0, 1], absent where it does not apply.

    ``colour``, ``shape`` and ``texture`` are means over the scene's things in their places. ``spatial`` asks, for
    pairs, whether the axis is right and the things stand in the asked order rather than the opposite one. ``count``
    asks for the number of things. ``composition`` is 1 if everything in the caption is right at once.
    """
    slots = [{name: seen[f"{name}_{i}"] for name in ("colour", "shape", "texture")} for i in range(len(scene.things))]
    scores = {
        name: float(
            np.mean([slot[name] == getattr(thing, name) for slot, thing in zip(slots, scene.things, strict=True)])
        )
        for name in ("colour", "shape", "texture")
    }
    layout_right = seen["layout"] == scene.layout
    if scene.layout in PAIRS:
        scores["spatial"] = float(layout_right and _agreement(scene, slots) > _agreement(scene, slots[::-1]))
    else:
        scores["count"] = float(layout_right)
    scores["background"] = float(seen["background"] == scene.background)
    scores["composition"] = float(
        layout_right and all(scores[k] == 1.0 for k in ("colour", "shape", "texture", "background"))
    )
    return scores


def _agreement(scene: Scene, slots: list[dict[str, str]]) -> int:
    return sum(slot[name] == getattr(t, name) for slot, t in zip(slots, scene.things, strict=True) for name in slot)


def pixels01(images: NDArray[np.uint8]) -> Tensor:
    """uint8 (N, H, W, 3) to float32 (N, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(255)


def labels(scenes: list[Scene]) -> dict[str, Tensor]:
    """Class indices int64 (N,) per head; -100 where a head has nothing to say (slot 1 of anything but pairs)."""
    columns: dict[str, list[int]] = {name: [] for name in HEADS}
    for scene in scenes:
        columns["layout"].append(LAYOUTS.index(scene.layout))
        columns["background"].append(BACKGROUNDS.index(scene.background))
        for slot in (0, 1):
            for name in ("colour", "shape", "texture"):
                head = f"{name}_{slot}"
                there = slot < len(scene.things)
                columns[head].append(HEADS[head].index(getattr(scene.things[slot], name)) if there else -100)
    return {name: torch.tensor(values) for name, values in columns.items()}


def save_oracle(net: OracleNet, folder: Path) -> None:
    """Write ``config.json`` and fp16 ``model.safetensors``."""
    with atomic_folder(folder) as beside:
        (beside / "config.json").write_text(json.dumps({"width": net.width}) + "\n")
        state = {k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}
        save_file({k: v.contiguous() for k, v in state.items()}, beside / "model.safetensors")
