"""Reading and overriding parameters: each violation is one line that names the key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from eclipse.config import load_params, parse_params
from eclipse.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def raw():
    return yaml.safe_load((ROOT / "params.yaml").read_text())


def test_overrides_take_yaml_values():
    params = load_params(ROOT / "params.yaml", ["train.steps=7", "sweep.seeds=[4, 5]", "train.temperature=0.07"])
    assert (params.train.steps, params.sweep.seeds, params.train.temperature) == (7, (4, 5), 0.07)


def test_a_misspelt_key_is_named_with_the_right_one(raw):
    raw["train"]["batchsize"] = 3
    with pytest.raises(ConfigError, match=r"train\.batchsize: unknown parameter; did you mean batch_size\?"):
        parse_params(raw)


def test_a_misspelt_section_of_an_override_is_named():
    with pytest.raises(ConfigError, match=r"trian: unknown parameter; did you mean train\?"):
        load_params(ROOT / "params.yaml", ["trian.steps=7"])


def test_all_violations_are_told_at_once(raw):
    raw["train"]["lr"] = -1
    raw["store"]["tokens"] = "int4"
    with pytest.raises(ConfigError) as error:
        parse_params(raw)
    assert "train.lr" in str(error.value)
    assert "store.tokens" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("item", ["train.steps", "train.steps.deep=1"])
def test_an_override_that_is_no_assignment_is_refused(item):
    with pytest.raises(ConfigError, match="--set"):
        load_params(ROOT / "params.yaml", [item])


def test_a_missing_section_is_named(raw):
    del raw["prior"]
    with pytest.raises(ConfigError, match="prior"):
        parse_params(raw)


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2", "\tx: 1"])
def test_a_damaged_file_is_named(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"params\.yaml"):
        load_params(path)


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match="--params"):
        load_params(tmp_path / "params.yaml")


def test_own_data_needs_a_path(raw):
    raw["data"] |= {"source": "folder", "path": None}
    with pytest.raises(ConfigError, match=r"data\.path is needed"):
        parse_params(raw)


@pytest.mark.parametrize("points", [["eclipse"], ["eclipse-x"], ["projection", "projection"], ["lambda-0.1"]])
def test_sweep_points_are_checked(raw, points):
    raw["sweep"]["points"] = points
    with pytest.raises(ConfigError, match=r"sweep\.points"):
        parse_params(raw)


def test_parameters_do_not_change(raw):
    with pytest.raises(ValueError, match="frozen"):
        parse_params(raw).train.steps = 3
