"""What ``select`` chose, read and checked before it is registered."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eclipse.errors import CheckpointError, DataError
from eclipse.files import read_json
from eclipse.models.checkpoint import CONFIG, WEIGHTS, kind_of, load_prior, prior_hash

FILES = (CONFIG, WEIGHTS, "training.json", "selection.json", "README.md")
"""The files of a selected prior's folder."""
_CUT = "\n\n… The whole card is README.md among the artifacts of the model."


@dataclass(frozen=True)
class SelectedPrior:
    """A folder of :data:`FILES`: ``record`` is its training.json, ``selection`` its selection.json."""

    folder: Path
    variant: str
    prior_hash: str
    record: dict[str, Any]
    selection: dict[str, Any]

    @property
    def point(self) -> str:
        """``<point>-<seed>``, what the sweep calls it."""
        return f"{self.selection['point']}-{self.selection['seed']}"

    def tags(self) -> dict[str, str]:
        """Lineage as tags of a version."""
        return {
            "eclipse.prior_hash": self.prior_hash,
            "eclipse.encoder_hash": self.record["encoder_hash"],
            "eclipse.store_hash": self.record["store_hash"],
            "eclipse.dataset": self.record["dataset_digest"],
            "eclipse.point": self.selection["point"],
            "eclipse.seed": str(self.selection["seed"]),
            "eclipse.lam": str(self.record["lam"]),
            "eclipse.variant": self.variant,
        }

    def description(self, limit: int) -> str:
        """The model card as Markdown of at most ``limit`` characters, without its front matter."""
        card = (self.folder / "README.md").read_text(encoding="utf-8")
        card = re.sub(r"\A---\n.*?\n---\n", "", card, flags=re.DOTALL).strip()
        if len(card) <= limit:
            return card
        return card[: limit - len(_CUT)].rpartition("\n")[0] + _CUT


def read_selected(folder: Path) -> SelectedPrior:
    """Read the folder; a missing file or field is a :class:`DataError`.

    Weights that are not the chosen ones, do not load or are of the diffusion baseline are a :class:`CheckpointError`.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; run the select stage that writes it (dvc repro)")
    for name in FILES:
        if not (folder / name).is_file():
            raise DataError(f"{folder / name}: no such file; run the select stage again (dvc repro)")
    selection = _fields(folder / "selection.json", "point", "seed", "prior_hash")
    record = _fields(folder / "training.json", "encoder_hash", "store_hash", "dataset_digest", "lam")
    found = prior_hash(folder)
    if found != selection["prior_hash"]:
        raise CheckpointError(
            f"{folder / 'selection.json'}: prior_hash {str(selection['prior_hash'])[:12]} was chosen, but the weights "
            f"beside it are {found[:12]}; run the select stage again (dvc repro)"
        )
    variant = kind_of(load_prior(folder))
    if variant == "diffusion":
        raise CheckpointError(f"{folder}: holds the diffusion baseline, which is a yardstick and not registered")
    return SelectedPrior(folder, variant, found, record, selection)


def _fields(path: Path, *names: str) -> dict[str, Any]:
    value = read_json(path)
    missing = [name for name in names if not isinstance(value, dict) or name not in value]
    if missing:
        raise DataError(f"{path}: {', '.join(missing)} missing; run its stage again (dvc repro)")
    return dict(value)
