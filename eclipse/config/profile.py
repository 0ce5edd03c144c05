"""A profile of conf/ composed as ``dvc exp run -S profile=NAME`` composes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eclipse.errors import ConfigError


def compose_profile(root: Path, name: str) -> dict[str, Any]:
    """The content of a params.yaml for ``root``/conf/profile/``name``.yaml; :class:`ConfigError` if there is none."""
    known = sorted(path.stem for path in (root / "conf" / "profile").glob("*.yaml"))
    if name not in known:
        raise ConfigError(f"profile {name!r}: no conf/profile/{name}.yaml; there are {', '.join(known)}")
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str((root / "conf").absolute()), version_base=None):
        composed = compose(config_name="config", overrides=[f"profile={name}"])
    found: dict[str, Any] = OmegaConf.to_container(composed, resolve=True)  # type: ignore[assignment]
    return found
