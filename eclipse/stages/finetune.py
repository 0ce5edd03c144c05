"""Stages ``finetune`` and ``study-finetune``: the decoder's UNet on a person's own concepts, and what that does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from eclipse.config import Params
from eclipse.errors import ConfigError
from eclipse.files import atomic_folder, write_json
from eclipse.models.clip import FrozenClip
from eclipse.models.decoder import decoder_folder
from eclipse.personalize.finetune_data import load_concept, parse_concepts
from eclipse.personalize.finetune_save import Source, check_out, finetune_decoder


def run(
    params: Params,
    *,
    concept: tuple[str, ...],
    steps: int = 200,
    out: Path,
    frozen: Path = Path("artifacts/frozen"),
    checkpoints: Path = Path("artifacts/checkpoints"),
    seed: int = 0,
) -> dict[str, Any]:
    """Finetune the decoder's UNet on folders of pictures, each given as NAME=FOLDER, all in one model.

    ``out`` becomes a whole decoder folder, which the unmodified pipeline loads, with finetune.json (lineage). A killed
    or stopped run goes on when the same command runs again. ``concept`` is a tuple of NAME=FOLDER.
    """
    if steps < 1:
        raise ConfigError(f"--steps {steps}: must be at least 1")
    source = decoder_folder(frozen)
    check_out(out, source)
    concepts = [load_concept(name, place) for name, place in parse_concepts(concept).items()]
    models = Source(FrozenClip.load(frozen / "clip"), source)
    return finetune_decoder(concepts, models, params.finetune, steps=steps, seed=seed, out=out, checkpoints=checkpoints)


def study(params: Params, *, frozen: Path, out: Path, checkpoints: Path) -> dict[str, Any]:
    """What finetuning gains for concepts with new textures, and what it costs everything else (mini world)."""
    from eclipse.personalize.finetune_report import figure, report
    from eclipse.personalize.finetune_study import run_study

    work = checkpoints / "finetune-study"
    found, shown = run_study(params.finetune, params.evaluate.decode, frozen, work)
    with atomic_folder(out) as beside:
        write_json(beside / "results.json", found)
        (beside / "README.md").write_text(report(found), encoding="utf-8")
        (beside / "figures").mkdir()
        figure(shown, beside / "figures" / "before_after.png")
    shutil.rmtree(work, ignore_errors=True)
    return {"rows": len(found["rows"])}
