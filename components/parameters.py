"""The parameters that a pipeline is built of: a params.yaml or a profile, with overrides."""

from __future__ import annotations

import tempfile
from pathlib import Path

import yaml

from eclipse.config import Params, load_params
from eclipse.config.profile import compose_profile


def read_params(root: Path, file: Path, profile: str | None, overrides: list[str]) -> Params:
    """``file``, or ``profile`` of ``root``/conf composed as by ``dvc exp run -S profile=…``; then ``overrides``."""
    if profile is None:
        return load_params(file, overrides)
    composed = compose_profile(root, profile)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{profile}.yaml"
        path.write_text(yaml.safe_dump(composed), encoding="utf-8")
        return load_params(path, overrides)
