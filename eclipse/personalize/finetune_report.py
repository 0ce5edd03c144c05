"""The finetuning study's table (Markdown) and its sheet of pictures before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eclipse.personalize.finetune_study import Shown

_TITLES = {
    "clip_i": "CLIP-I",
    "perceptual": "perceptual distance ↓",
    "rmse": "pixel RMSE ↓",
    "own_texture": "own texture nearest",
    "colour": "colour",
    "shape": "shape",
    "texture": "texture",
    "composition": "composition",
}
_OF = {
    "single": "The concepts on other backgrounds",
    "beside": "The concepts beside an ordinary thing, at half the size",
    "scenes": "Ordinary scenes (forgetting)",
}


def report(found: dict[str, Any]) -> str:
    """The results as Markdown."""
    settings = found["settings"]
    told = "; ".join(f"{v['setting']}: lr {v['lr']:g}, {v['steps_per_concept']} steps" for v in settings["variants"])
    lines = [
        "# Finetuning study: results",
        "",
        f"{settings['pictures']} pictures of each concept, {settings['pictures_per_step']} in a step. Per concept, "
        f"{told}. Measured on {settings['others']} other pictures of each concept and {settings['scenes']} ordinary "
        "scenes, all decoded from their true z_x with the same decoder noise before and after. Differences are paired, "
        "with bootstrap 95 % intervals over pictures; the pictures of one concept are alike, so the intervals say how "
        "sure the figure is for these three concepts, not for any concept.",
    ]
    for of, title in _OF.items():
        lines += [
            "",
            f"## {title}",
            "",
            "| setting | concepts | figure | before | after | difference [95 %] |",
            "|---" * 6 + "|",
        ]
        lines += [_line(row) for row in found["rows"] if row["of"] == of]
    return "\n".join([*lines, "", "![before and after](figures/before_after.png)", ""])


def _line(row: dict[str, Any]) -> str:
    d = row["difference"]
    change = f"{d['value']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]"
    numbers = f"{row['before']['value']:.3f} | {row['after']['value']:.3f} | {change}"
    return f"| {row['setting']} | {row['concepts']} | {_TITLES[row['metric']]} | {numbers} |"


def figure(shown: Shown, path: Path) -> None:
    """A sheet: two held-out pictures of each concept down, decoders across."""
    from matplotlib import pyplot as plt

    size = (1.15 * len(shown.columns), 1.1 * len(shown.rows) + 0.4)
    fig, axes = plt.subplots(len(shown.rows), len(shown.columns), figsize=size, squeeze=False)
    for column, (title, images) in enumerate(shown.columns.items()):
        axes[0][column].set_title(title, fontsize=8)
        for row, image in enumerate(images):
            axes[row][column].imshow(image, interpolation="nearest")
            axes[row][column].set(xticks=[], yticks=[])
    for row, name in enumerate(shown.rows):
        axes[row][0].set_ylabel(name, fontsize=7)
    fig.tight_layout(pad=0.3)
    fig.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(fig)
