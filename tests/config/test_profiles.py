"""params.yaml, the profiles it is composed from, and the typed parameters agree."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from eclipse.config import load_params, parse_params

ROOT = Path(__file__).resolve().parents[2]
PROFILES = sorted(path.stem for path in (ROOT / "conf/profile").glob("*.yaml"))


def _composed(*overrides: str) -> str:
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        return OmegaConf.to_yaml(compose(config_name="config", overrides=list(overrides)))


def test_committed_parameters_are_the_mini_profile_byte_for_byte():
    assert (ROOT / "params.yaml").read_text() == _composed(), "compose it again: dvc exp run writes this file"


def test_committed_parameters_are_complete():
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert load_params(ROOT / "params.yaml").model_dump(mode="json") == raw


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_complete_and_named_after_its_file(profile):
    raw = yaml.safe_load(_composed(f"profile={profile}"))
    params = parse_params(raw)
    assert params.profile == profile
    assert params.model_dump(mode="json") == raw


def test_only_the_papers_profiles_draw_in_half_precision_on_a_gpu():
    """The mini world's pictures, figures and promotions are not to depend on whether there is one."""
    precision = {
        name: parse_params(yaml.safe_load(_composed(f"profile={name}"))).decoder.precision for name in PROFILES
    }
    papers = {"kandinsky", "lambda-kandinsky", "karlo"}
    assert precision == {name: "auto" if name in papers else "fp32" for name in PROFILES}
